//! Whether two processes share their memory (kcmp(2)), which /proc does not show.
#![expect(unsafe_code, reason = "neither the standard library nor nix wraps kcmp")]

use crate::model::Pid;

/// `KCMP_VM` of linux/kcmp.h.
const KCMP_VM: libc::c_long = 1;

/// Whether both have the same address space, or both have none. False also if memmon may not compare (EPERM, without
/// CAP_SYS_PTRACE), or if the kernel was built without kcmp (ENOSYS): then the process is assumed to have memory of its
/// own, which is almost always true.
pub(super) fn same_memory(one: Pid, other: Pid) -> bool {
    let [one, other] = [one, other].map(|pid| libc::c_long::from(pid.0));
    // SAFETY: kcmp takes five numbers and dereferences none of them.
    let order = unsafe { libc::syscall(libc::SYS_kcmp, one, other, KCMP_VM, 0, 0) };
    order == 0
}
