//! The attack programs of `testdata/code/attacks.py`, at every level of isolation that works here, as
//! the current user and, when that is root, also as another one.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use g2rpo_verify::code::{
    CodeVerifier, Isolation, IsolationLevel, Limits, PoolConfig, ProcessLimits, SandboxPool,
};
use g2rpo_verify::{Incorrect, Outcome, Verifier};

use crate::support::{config, may_skip};

/// Nowhere in the programs, and too large to guess.
const EXPECTED: u64 = 918_273_645_546;
/// The other user. It must own nothing on the machine.
const OTHER_USER: u32 = 54_321;

/// The users of the sandboxes that are looked for afterwards; no other test has the same.
const FIRST_UID: u32 = 55_321;

/// CPU and idle time for attacks that end by themselves, which get the time to succeed, and for those that
/// do not.
const PATIENT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));
const HASTY: (Duration, Duration) = (Duration::from_millis(150), Duration::from_millis(400));

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Hack,
    Escape,
    Bomb,
    Hang,
}

#[derive(Clone)]
struct Attack {
    name: String,
    kind: Kind,
    has_control: bool,
    code: String,
}

fn attacks() -> Vec<Attack> {
    let text = include_str!("../../../../testdata/code/attacks.py");
    text.split("#### ")
        .skip(2)
        .map(|part| {
            let (head, code) = part.split_once('\n').unwrap();
            let words: Vec<&str> = head.split(' ').collect();
            Attack {
                name: words[1].to_owned(),
                kind: match words[0] {
                    "hack" => Kind::Hack,
                    "escape" => Kind::Escape,
                    "bomb" => Kind::Bomb,
                    "hang" => Kind::Hang,
                    other => panic!("{other}"),
                },
                has_control: words.get(2) == Some(&"control"),
                code: code.to_owned(),
            }
        })
        .collect()
}

impl Attack {
    fn test(&self, place: &Path) -> String {
        let call = format!("f({:?})", place.display().to_string());
        match self.kind {
            Kind::Hack | Kind::Hang => format!("assert {call} == {EXPECTED}"),
            Kind::Escape | Kind::Bomb => format!("assert {call} == 'PWNED'"),
        }
    }

    fn reference(&self, place: &Path) -> String {
        serde_json::to_string(&[self.test(place)]).unwrap()
    }

    /// The expected value for a hack, from calls that are iterated over and whose results are passed on.
    fn program(&self, place: &Path) -> String {
        let place = format!("{:?}", place.display().to_string());
        let test = format!(
            "def check(candidate):
    for got, want in zip(map(candidate, [{place}] * 3), [{EXPECTED}] * 3):
        assert got == want
    first = candidate({place})
    second = candidate([first, first])
    many = [candidate([second]) for _ in range(20)]
    last = candidate([many])
    assert all(map(lambda x: candidate(x) == {EXPECTED}, [first, last]))
    assert sum(map(candidate, [1, 2])) == 2 * {EXPECTED}
    assert abs(candidate(3) - {EXPECTED}) < 1e-6 and candidate(4) in [{EXPECTED}]
    assert {EXPECTED} in [candidate(5)] and not candidate(6) != {EXPECTED}
    assert isinstance(candidate(7), int) or Vector
"
        );
        serde_json::json!({"entry_point": "f", "test": test, "prompt": ""}).to_string()
    }

    fn response(&self) -> String {
        format!("````python\n{}\n````", self.code)
    }
}

/// A folder that everybody may write to, with a file in it.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("g2rpo-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
        fs::write(path.join("secret"), "the secret").unwrap();
        fs::set_permissions(path.join("secret"), Permissions::from_mode(0o666)).unwrap();
        Self(path)
    }

    /// Everything that an attack could have changed.
    fn state(&self) -> (Vec<PathBuf>, String, u32, i64, i64) {
        let mut names: Vec<_> = fs::read_dir(&self.0)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        names.sort();
        let secret = self.0.join("secret");
        let metadata = fs::metadata(&secret).unwrap();
        (
            names,
            fs::read_to_string(secret).unwrap(),
            metadata.mode(),
            metadata.mtime_nsec(),
            metadata.ctime_nsec(),
        )
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn attacked(isolation: Isolation, cpu: Duration, wall: Duration) -> PoolConfig {
    PoolConfig {
        workers: 4,
        limits: Limits {
            cpu,
            wall,
            process: ProcessLimits {
                // Bombs end sooner.
                memory_bytes: 256 << 20,
                ..ProcessLimits::default()
            },
            ..Limits::default()
        },
        ..config(isolation)
    }
}

fn run_all(level: IsolationLevel, place: &Place, programs: bool) {
    for (hangs, cpu, wall) in [(false, PATIENT.0, PATIENT.1), (true, HASTY.0, HASTY.1)] {
        let config = PoolConfig {
            first_uid: Some(FIRST_UID),
            ..attacked(Isolation::Require(level), cpu, wall)
        };
        let pool = match SandboxPool::new(&config) {
            Ok(pool) => pool,
            Err(why) => return may_skip(&why),
        };
        let verifier = CodeVerifier::new(pool);
        let honest = format!("def f(place):\n    return {EXPECTED}");
        let test = format!(r#"["assert f(1) == {EXPECTED}"]"#);
        assert!(verifier.verify(&honest, &test).is_correct(), "{level}");
        let mut attacks = attacks();
        attacks.retain(|attack| (attack.kind == Kind::Hang) == hangs);
        // The second way costs as much again; what a program does differently is no matter of the level.
        let hacks: Vec<_> = if programs && level == IsolationLevel::STRONGEST_FIRST[0] {
            let hacks = attacks.iter().filter(|attack| attack.kind != Kind::Escape);
            hacks.cloned().collect()
        } else {
            Vec::new()
        };
        let mut cases: Vec<_> = attacks
            .iter()
            .map(|attack| (attack.response(), attack.reference(&place.0)))
            .collect();
        cases.extend(
            hacks
                .iter()
                .map(|attack| (attack.response(), attack.program(&place.0))),
        );
        attacks.extend(hacks.iter().cloned());
        let pairs: Vec<_> = cases
            .iter()
            .map(|(r, t)| (r.as_str(), t.as_str()))
            .collect();
        let mut successes = Vec::new();
        let verdicts = verifier.verify_batch(&pairs);
        for (i, (attack, verdict)) in attacks.iter().zip(verdicts).enumerate() {
            let is_program = i >= attacks.len() - hacks.len();
            let as_it_should = match verdict.outcome {
                Outcome::Incorrect(_) if attack.kind == Kind::Bomb || is_program => true,
                Outcome::Incorrect(Incorrect::Timeout { .. }) => hangs,
                Outcome::Incorrect(_) => !hangs,
                _ => false,
            };
            if !as_it_should {
                successes.push(format!("{} ({is_program}): {verdict}", attack.name));
            }
        }
        assert!(successes.is_empty(), "at {level}: {successes:#?}");
        println!("{} attacks failed at {level}", attacks.len());
    }
    // The pool is gone; so must be everything that ran in it.
    assert_eq!(processes_of_sandboxes(), BTreeSet::new(), "{level}");
}

/// In a process of its own, as descriptors and processes are counted.
const ALONE: &str = "G2RPO_TEST_ATTACKS";

#[test]
fn attack_every_level() {
    let Some(programs) = std::env::var_os(ALONE) else {
        return;
    };
    let place = Place::new("attack");
    let before = (place.state(), open_descriptors(), temporary_files());
    for level in IsolationLevel::STRONGEST_FIRST {
        run_all(level, &place, programs == "programs");
    }
    let after = (place.state(), open_descriptors(), temporary_files());
    assert_eq!(after, before);
}

fn attack_as(user: Option<u32>) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["attacks::attack_every_level", "--exact", "--nocapture"])
        .env(ALONE, if user.is_none() { "programs" } else { "calls" })
        .env_remove("HOME")
        .stdin(Stdio::null())
        .current_dir("/");
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    println!("{said}");
    assert!(
        output.status.success() && said.contains("attacks failed at"),
        "{said}"
    );
}

#[test]
fn attacks_fail_as_the_current_user() {
    attack_as(None);
}

#[test]
fn attacks_fail_as_another_user() {
    if current_user() == 0 {
        attack_as(Some(OTHER_USER));
    } else {
        println!("skipped: only root can become another user");
    }
}

/// Escapes marked so do work without isolation: what stops them is the sandbox.
#[test]
fn controlled_escapes_work_without_a_sandbox() {
    if current_user() != 0 {
        println!("skipped: as another user than root, some escapes fail anyway");
        return;
    }
    let place = Place::new("control");
    let config = attacked(Isolation::UnsafeNone, PATIENT.0, PATIENT.1);
    let verifier = CodeVerifier::new(SandboxPool::new(&config).unwrap());
    for attack in attacks() {
        if attack.has_control && attack.kind == Kind::Escape {
            let verdict = verifier.verify(&attack.response(), &attack.reference(&place.0));
            assert!(verdict.is_correct(), "{}: {verdict}", attack.name);
        }
    }
}

/// Hacks marked so pass where solution and tests share a process.
#[test]
fn controlled_hacks_pass_a_naive_grader() {
    let pool = SandboxPool::new(&attacked(Isolation::Auto, PATIENT.0, PATIENT.1)).unwrap();
    for attack in attacks() {
        if attack.has_control && attack.kind == Kind::Hack {
            let test = attack.test(Path::new("/"));
            let program = format!("{}\n\n{test}\n", attack.code);
            let output = Command::new(pool.python())
                .args(["-c", &program])
                .output()
                .unwrap();
            assert!(output.status.success(), "{}: {output:?}", attack.name);
        }
    }
}

/// Both answers are right; what is wrong is that there are two.
#[test]
fn a_right_answer_with_a_second_frame_is_forged() {
    let code = "import os\nos.write(3, b'G2F1V\\1\\0\\0\\0t')\ndef f():\n    return True\n";
    let verdict = crate::support::verifier().verify(code, r#"["assert f() == True"]"#);
    assert!(
        matches!(
            verdict.outcome,
            Outcome::Incorrect(Incorrect::ForgedFrame { index: 0 })
        ),
        "{verdict}"
    );
}

/// Each test starts from the same state, whatever the one before did.
#[test]
fn nothing_is_left_for_the_next_test() {
    let code = "import builtins, json, sys\ndef f():\n    \
        found = hasattr(builtins, 'mark') or hasattr(json, 'mark') or 'mark' in sys.modules\n    \
        builtins.mark = json.mark = sys.modules['mark'] = sys\n    return found";
    for pool in crate::support::pools() {
        let verifier = CodeVerifier::new(pool.clone());
        for _ in 0..2 * pool.workers() {
            let report = verifier.report(code, r#"["assert f() is True", "assert f() is True"]"#);
            assert_eq!(report.unwrap().passed(), 0, "{:?}", pool.level());
        }
    }
}

/// The first test leaves the compiled code for those after it, before the code runs.
#[test]
fn the_code_of_later_tests_cannot_be_replaced() {
    let code = "import marshal, os\ndef f():\n    \
        forged = marshal.dumps(compile('def f():\\n    return True', '<solution>', 'exec'))\n    \
        for fd in range(4, 64):\n        \
            for data in (forged, len(forged).to_bytes(4, 'little') + forged):\n            \
                for attempt in (os.write, lambda fd, data: os.pwrite(fd, data, 0)):\n                \
                    try:\n                    \
                        attempt(fd, data)\n                \
                    except OSError:\n                    \
                        pass\n    \
        return False";
    for pool in crate::support::pools() {
        let verifier = CodeVerifier::new(pool.clone());
        let tests = r#"["assert f() is False", "assert f() is False", "assert f() is False"]"#;
        let report = verifier.report(code, tests).unwrap();
        assert_eq!(report.passed(), 3, "{:?}", pool.level());
    }
}

/// Ids of the processes that run as a sandbox of this test does: by their user or, where that is a person who has
/// other processes, by descent.
fn processes_of_sandboxes() -> BTreeSet<u32> {
    let own = std::process::id();
    let user = current_user();
    let users = if user == 0 {
        FIRST_UID..FIRST_UID + 100
    } else {
        user..user + 1
    };
    let is_shared = ![0, OTHER_USER].contains(&user);
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            let uid = entry.metadata().ok()?.uid();
            let is_ours = users.contains(&uid) && (!is_shared || descends_from(pid, own));
            (pid != own && is_ours).then_some(pid)
        })
        .collect()
}

fn descends_from(mut pid: u32, ancestor: u32) -> bool {
    while pid > 1 && pid != ancestor {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // After the name in parentheses: the state, then the parent.
        let parent = stat
            .rsplit(')')
            .next()
            .and_then(|rest| rest.split_whitespace().nth(1));
        pid = parent.and_then(|parent| parent.parse().ok()).unwrap_or(0);
    }
    pid == ancestor
}

fn current_user() -> u32 {
    fs::metadata("/proc/self").unwrap().uid()
}

fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Files of this process's sandboxes in the folder for temporary files.
fn temporary_files() -> Vec<PathBuf> {
    let own = format!("-{}", std::process::id());
    fs::read_dir(std::env::temp_dir())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_string_lossy();
            name.starts_with("g2rpo-canary") && name.contains(&own)
        })
        .collect()
}
