//! The seccomp filters, in two stages.
//!
//! The interpreter and the processes that it forks before untrusted code runs live under a deny-list:
//! they need `fork`, `kill` and `execve`, and run no untrusted instruction. Each process that is about
//! to run untrusted code adds the allow-list of [`test_filter`], which is final: filters add up, and
//! nothing can be taken back.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter, sock_filter,
};

use crate::SandboxError;

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

/// What the interpreter needs to run a pure computation. Everything else is refused.
const ALLOWED: &[c_long] = &[
    // Files and pipes that are open, and files that Landlock or the private root lets it open.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_openat,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_chdir,
    libc::SYS_fchdir,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_pipe2,
    libc::SYS_ftruncate,
    libc::SYS_umask,
    libc::SYS_sendfile,
    libc::SYS_copy_file_range,
    // Waiting.
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_timerfd_gettime,
    // The two ends of a stream socket pair.
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_shutdown,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    // Memory.
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_mincore,
    libc::SYS_msync,
    libc::SYS_membarrier,
    // Threads and signals of this process. No call here can signal another one.
    libc::SYS_clone3,
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_rseq,
    libc::SYS_gettid,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigsuspend,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_setitimer,
    libc::SYS_getitimer,
    libc::SYS_sched_yield,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // Time, randomness, and who am I.
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_times,
    libc::SYS_getrusage,
    libc::SYS_getrandom,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getgroups,
    libc::SYS_getresuid,
    libc::SYS_getresgid,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_getcpu,
    // Forms of the above that other architectures do not have.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lstat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_access,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_getdents,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_dup2,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_pipe,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_select,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_create,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_eventfd,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_alarm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_pause,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_time,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_getpgrp,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_arch_prctl,
];

/// What not even the trusted interpreter may do. `memfd_create`, `fork`, `kill` and `execve` are
/// missing on purpose.
const DENIED: &[c_long] = &[
    // Network.
    libc::SYS_socket,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    // Namespaces and mounts.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_mount_setattr,
    // Kernel surface that nothing here needs.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_setup,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_memfd_secret,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_fanotify_init,
    libc::SYS_inotify_init1,
    libc::SYS_quotactl,
    libc::SYS_acct,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_syslog,
    libc::SYS_reboot,
    libc::SYS_kexec_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_personality,
    libc::SYS_vhangup,
    // Memory and queues shared with other processes.
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_semget,
    libc::SYS_semctl,
    libc::SYS_msgget,
    libc::SYS_msgsnd,
    libc::SYS_msgrcv,
    libc::SYS_mq_open,
    libc::SYS_mq_unlink,
    // File metadata, which Landlock does not guard: the process may have the user id of its caller.
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    libc::SYS_utimensat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lchown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utime,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utimes,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_futimesat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_inotify_init,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_kexec_file_load,
    // Sessions and groups: the helper kills by group.
    libc::SYS_setsid,
    libc::SYS_setpgid,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_call_is_both_needed_and_denied() {
        for call in ALLOWED {
            assert!(!DENIED.contains(call), "system call {call}");
        }
    }

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
