//! The seccomp filters, in two stages.
//!
//! The interpreter and the processes that it forks before untrusted code runs live under a deny-list:
//! they need `fork`, `kill` and `execve`, and run no untrusted instruction. Each process that is about
//! to run untrusted code adds the allow-list of [`test_filter`], which is final: filters add up, and
//! nothing can be taken back.

mod calls;

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter, sock_filter,
};

use crate::error::SandboxError;
use calls::{ALLOWED, DENIED};

type Rules = BTreeMap<c_long, Vec<SeccompRule>>;

/// Installs the stage for the interpreter, on this process and all that descend from it.
pub(crate) fn confine_interpreter() -> Result<(), SandboxError> {
    let denied: Rules = DENIED.iter().map(|&call| (call, vec![])).collect();
    let denied = compile(denied, SeccompAction::Allow, eperm())?;
    // glibc falls back from clone3 to clone, whose flags a filter can see, only on ENOSYS.
    let clone3 = Rules::from([(libc::SYS_clone3, vec![])]);
    let clone3 = compile(
        clone3,
        SeccompAction::Allow,
        SeccompAction::Errno(libc::ENOSYS as u32),
    )?;
    for program in [denied, clone3, foreign_call_filter()] {
        if !program.is_empty() {
            apply_filter(&program).map_err(failed)?;
        }
    }
    Ok(())
}

/// The stage for untrusted code; see [`crate::test_filter`].
///
/// One program, since each process that runs a test has it translated by the kernel anew.
pub(crate) fn test_filter() -> Result<Vec<u8>, SandboxError> {
    let refused = refused_arguments()?;
    let conditional: Vec<c_long> = refused.keys().copied().collect();
    let by_argument = compile(refused, SeccompAction::Allow, eperm())?;
    let mut program = native_only();
    program.extend(number_filter(ALLOWED, &conditional));
    program.extend(by_argument);
    Ok(program.iter().flat_map(instruction_bytes).collect())
}

/// `struct sock_filter`: code, two jump offsets, operand, in native byte order.
fn instruction_bytes(instruction: &sock_filter) -> [u8; 8] {
    let code = instruction.code.to_ne_bytes();
    let k = instruction.k.to_ne_bytes();
    [
        code[0],
        code[1],
        instruction.jt,
        instruction.jf,
        k[0],
        k[1],
        k[2],
        k[3],
    ]
}

fn eperm() -> SeccompAction {
    SeccompAction::Errno(libc::EPERM as u32)
}

fn compile(
    rules: Rules,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> Result<BpfProgram, SandboxError> {
    // The program also kills on a foreign architecture, such as 32-bit calls on x86-64.
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(failed)?;
    SeccompFilter::new(rules, otherwise, matched, arch)
        .and_then(BpfProgram::try_from)
        .map_err(failed)
}

const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;
/// Offsets in `struct seccomp_data`.
const CALL_NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const KILL_PROCESS: u32 = 0x8000_0000;
const RETURN_EPERM: u32 = 0x0005_0000 | libc::EPERM as u32;
const ALLOW: u32 = 0x7fff_0000;
/// `AUDIT_ARCH_*` of the architectures that the filters are written for.
const NATIVE: u32 = if cfg!(target_arch = "x86_64") {
    0xc000_003e
} else {
    0xc000_00b7
};

const fn instruction(code: u16, jt: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf: 0, k }
}

/// Kills on calls of another architecture, such as 32-bit ones on x86-64; goes on with all others.
fn native_only() -> BpfProgram {
    vec![
        instruction(LOAD, 0, ARCHITECTURE),
        instruction(JUMP_IF_EQUAL, 1, NATIVE),
        instruction(RETURN, 0, KILL_PROCESS),
    ]
}

/// What is done about a system call, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    Return(u32),
    /// Goes on behind the end of the program, where the arguments are looked at.
    GoOn,
}

/// Allows the numbers of the first list, goes on with those of the second, and refuses all others.
///
/// A binary search over ranges: the kernel runs a new filter once for each call number to find out
/// which it always allows, so a chain as long as the list, which is what the crate compiles to, costs
/// more than the fork of the process that installs it.
fn number_filter(allowed: &[c_long], conditional: &[c_long]) -> BpfProgram {
    let refuse = Decision::Return(RETURN_EPERM);
    let mut decisions: BTreeMap<u32, Decision> = BTreeMap::new();
    for &call in allowed {
        decisions.insert(call as u32, Decision::Return(ALLOW));
    }
    for &call in conditional {
        decisions.insert(call as u32, Decision::GoOn);
    }
    let mut ranges = vec![(0, refuse)];
    for (call, decision) in decisions {
        // Continues a range, or starts at the very first number.
        ranges.pop_if(|last| last.0 == call);
        ranges.push((call, decision));
        ranges.push((call + 1, refuse));
    }
    ranges.dedup_by_key(|range| range.1);
    let mut program = vec![instruction(LOAD, 0, CALL_NUMBER)];
    program.extend(search(&ranges));
    let length = program.len();
    for (at, step) in program.iter_mut().enumerate() {
        if step.code == JUMP {
            step.k = (length - at - 1) as u32;
        }
    }
    program
}

/// Ranges are given by their first number and what is done from there on.
fn search(ranges: &[(u32, Decision)]) -> BpfProgram {
    match ranges {
        [] => Vec::new(),
        [(_, Decision::Return(action))] => vec![instruction(RETURN, 0, *action)],
        // The distance is known when the program is whole.
        [(_, Decision::GoOn)] => vec![instruction(JUMP, 0, 0)],
        _ => {
            let (below, above) = ranges.split_at(ranges.len() / 2);
            let below = search(below);
            // The tests check that no jump is too far for its 8 bits.
            let over_below = below.len() as u8;
            let mut program = vec![instruction(JUMP_IF_AT_LEAST, over_below, above[0].0)];
            program.extend(below);
            program.extend(search(above));
            program
        }
    }
}

/// Kills on x32 calls: they have the architecture number of x86-64 and other call numbers, which a
/// deny-list of native numbers would let through.
fn foreign_call_filter() -> BpfProgram {
    const X32_BIT: u32 = 0x4000_0000;
    if cfg!(target_arch = "x86_64") {
        let mut program = vec![instruction(LOAD, 0, CALL_NUMBER)];
        program.extend(search(&[
            (0, Decision::Return(ALLOW)),
            (X32_BIT, Decision::Return(KILL_PROCESS)),
        ]));
        program
    } else {
        Vec::new()
    }
}

/// Calls that are harmless only with certain arguments, and the arguments that are refused.
fn refused_arguments() -> Result<Rules, SandboxError> {
    use SeccompCmpOp::{MaskedEq, Ne};
    // Refused unless the argument is one of the values.
    let unless = |argument: u8, values: &[u64]| -> Result<Vec<SeccompRule>, SandboxError> {
        let conditions: Vec<_> = values.iter().map(|&value| (argument, Ne, value)).collect();
        Ok(vec![rule(&conditions)?])
    };
    let mut clone = vec![rule(&[(0, MaskedEq(libc::CLONE_THREAD as u64), 0)])?];
    for namespace in NAMESPACES {
        clone.push(rule(&[(0, MaskedEq(namespace), namespace)])?);
    }
    let mut socketpair = unless(0, &[libc::AF_UNIX as u64])?;
    for kind in (0..16).filter(|&kind| kind != libc::SOCK_STREAM as u64) {
        socketpair.push(rule(&[(1, MaskedEq(0xf), kind)])?);
    }
    Ok(Rules::from([
        // Threads of this process; never a process, never a namespace.
        (libc::SYS_clone, clone),
        // No change of owner or signal: a pipe could otherwise be made to signal another process.
        (
            libc::SYS_fcntl,
            unless(
                1,
                &[
                    libc::F_DUPFD as u64,
                    libc::F_GETFD as u64,
                    libc::F_SETFD as u64,
                    libc::F_GETFL as u64,
                    libc::F_SETFL as u64,
                    libc::F_DUPFD_CLOEXEC as u64,
                    libc::F_GETPIPE_SZ as u64,
                ],
            )?,
        ),
        // What the interpreter asks of any file: is it a terminal, how much is there, close on exec.
        (
            libc::SYS_ioctl,
            unless(
                1,
                &[
                    libc::TCGETS,
                    libc::FIONREAD,
                    libc::FIONBIO,
                    libc::FIOCLEX,
                    libc::FIONCLEX,
                ],
            )?,
        ),
        // Thread names.
        (
            libc::SYS_prctl,
            unless(0, &[libc::PR_SET_NAME as u64, libc::PR_GET_NAME as u64])?,
        ),
        // Limits of this process only. It cannot raise them.
        (libc::SYS_prlimit64, unless(0, &[0])?),
        // An asyncio loop wakes itself through one. Stream sockets cannot be sent to an address.
        (libc::SYS_socketpair, socketpair),
        // Of this process only, as others' would tell what runs beside it.
        (libc::SYS_sched_getaffinity, unless(0, &[0])?),
        (libc::SYS_getpgid, unless(0, &[0])?),
        (libc::SYS_getsid, unless(0, &[0])?),
    ]))
}

/// `CLONE_NEWTIME`, which shares its bit with the exit signal of a plain clone, and the others.
const NAMESPACES: [u64; 8] = [
    0x80,
    libc::CLONE_NEWNS as u64,
    libc::CLONE_NEWCGROUP as u64,
    libc::CLONE_NEWUTS as u64,
    libc::CLONE_NEWIPC as u64,
    libc::CLONE_NEWUSER as u64,
    libc::CLONE_NEWPID as u64,
    libc::CLONE_NEWNET as u64,
];

fn rule(conditions: &[(u8, SeccompCmpOp, u64)]) -> Result<SeccompRule, SandboxError> {
    let conditions = conditions
        .iter()
        .map(|(argument, op, value)| {
            SeccompCondition::new(*argument, SeccompCmpArgLen::Dword, op.clone(), *value)
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed)?;
    SeccompRule::new(conditions).map_err(failed)
}

fn failed(error: impl std::fmt::Display) -> SandboxError {
    SandboxError::Protocol(format!("seccomp filter: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program on a call number, as the kernel does; `None` when it goes on behind its end.
    fn decide(program: &[sock_filter], call: u32) -> Option<u32> {
        let mut at = 0;
        while let Some(step) = program.get(at) {
            at += 1;
            match step.code {
                LOAD => assert_eq!(step.k, CALL_NUMBER),
                JUMP => at += step.k as usize,
                JUMP_IF_AT_LEAST if call >= step.k => at += usize::from(step.jt),
                JUMP_IF_AT_LEAST => {}
                RETURN => return Some(step.k),
                code => panic!("unknown instruction {code:#x}"),
            }
        }
        assert_eq!(at, program.len());
        None
    }

    #[test]
    fn the_search_decides_every_number_as_the_lists_do() {
        let conditional: Vec<c_long> = refused_arguments().unwrap().keys().copied().collect();
        let program = number_filter(ALLOWED, &conditional);
        // Jumps have 8 bits.
        assert!(program.len() < 256);
        for call in (0..1000).chain([0x3fff_ffff, 0x4000_0000, 0x4000_0101, u32::MAX]) {
            let expected = if conditional.contains(&c_long::from(call)) {
                None
            } else if ALLOWED.contains(&c_long::from(call)) {
                Some(ALLOW)
            } else {
                Some(RETURN_EPERM)
            };
            assert_eq!(decide(&program, call), expected, "call {call}");
        }
        let small = number_filter(&[0, 1, 5], &[6, 9]);
        let decisions: Vec<_> = (0..11).map(|call| decide(&small, call)).collect();
        let (yes, no) = (Some(ALLOW), Some(RETURN_EPERM));
        assert_eq!(
            decisions,
            [yes, yes, no, no, no, yes, None, no, no, None, no]
        );
    }

    #[test]
    fn foreign_architectures_are_deadly() {
        let [load, compare, kill] = native_only().try_into().unwrap();
        assert_eq!((load.code, load.k), (LOAD, ARCHITECTURE));
        // The crate's own programs begin with the same test.
        let its = compile(Rules::new(), SeccompAction::Allow, eperm()).unwrap();
        assert_eq!(its[..2], [load, compare]);
        assert_eq!((kill.code, kill.k), (RETURN, KILL_PROCESS));
    }

    #[test]
    fn x32_calls_are_deadly() {
        let program = foreign_call_filter();
        if cfg!(target_arch = "x86_64") {
            assert_eq!(decide(&program, 0x4000_0000 + 59), Some(KILL_PROCESS));
            assert_eq!(decide(&program, 59), Some(ALLOW));
        }
    }

    #[test]
    fn the_filter_is_whole_instructions() {
        let program = test_filter().unwrap();
        assert_eq!(program.len() % 8, 0);
        assert!((1..=4096).contains(&(program.len() / 8)));
    }

    #[test]
    fn untrusted_code_starts_nothing_and_signals_nobody() {
        let forbidden = [
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_kill,
            libc::SYS_tkill,
            libc::SYS_tgkill,
            libc::SYS_socket,
            libc::SYS_ptrace,
            libc::SYS_memfd_create,
            libc::SYS_seccomp,
            libc::SYS_setpriority,
            libc::SYS_fchmodat,
        ];
        let conditional = refused_arguments().unwrap();
        for call in forbidden {
            assert!(
                !ALLOWED.contains(&call) && !conditional.contains_key(&call),
                "call {call}"
            );
        }
    }
}
