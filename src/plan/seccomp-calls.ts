/** System calls that are treated alike, and why. Names as libseccomp 2.5.4 (Debian 12) knows them; seccomp.ts makes rules of them. */
export interface CallGroup {
  readonly reason: string
  readonly calls: readonly string[]
}

/** Allowed whatever the arguments are: the kernel's own permission checks on an unprivileged uid are the wall there. */
export const ALLOWED: readonly CallGroup[] = [
  {
    reason: 'open, read, write and close; which files exist is decided by the mounts',
    calls: words(`open openat openat2 creat close close_range read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2
      lseek dup dup2 dup3 fcntl flock pipe pipe2 fsync fdatasync sync_file_range fadvise64 readahead copy_file_range sendfile splice tee
      fallocate truncate ftruncate memfd_create`),
  },
  {
    reason: 'names, modes and attributes; mknod stays for FIFOs, devices need a capability that nobody has',
    calls: words(`stat fstat lstat newfstatat statx access faccessat faccessat2 readlink readlinkat getdents getdents64 getcwd chdir fchdir
      mkdir mkdirat rmdir unlink unlinkat rename renameat renameat2 link linkat symlink symlinkat mknod mknodat
      chmod fchmod fchmodat chown fchown lchown fchownat umask utime utimes futimesat utimensat statfs fstatfs
      getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr setxattr lsetxattr fsetxattr removexattr lremovexattr fremovexattr
      inotify_init inotify_init1 inotify_add_watch inotify_rm_watch`),
  },
  {
    reason: 'memory of its own, counted by the cgroup; locking is bounded by RLIMIT_MEMLOCK',
    calls: words(`brk mmap munmap mremap mprotect madvise mincore msync mlock mlock2 munlock mlockall munlockall membarrier
      pkey_alloc pkey_free pkey_mprotect`),
  },
  {
    reason: 'programs and threads, within the pid namespace and TasksMax; clone has rules of its own',
    calls: words(`execve execveat exit exit_group wait4 waitid set_tid_address set_robust_list get_robust_list rseq arch_prctl prctl
      futex futex_waitv restart_syscall kill tkill tgkill pidfd_open pidfd_send_signal getpid getppid gettid getpgid setpgid getpgrp getsid setsid`),
  },
  {
    reason: 'ids and capabilities: without capabilities these report, drop, or fail in the kernel',
    calls: words(`getuid geteuid getgid getegid getresuid getresgid getgroups setuid setgid setreuid setregid setresuid setresgid
      setfsuid setfsgid setgroups capget capset`),
  },
  {
    reason: 'walls that a program builds for itself can only add to ours',
    calls: words('seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self'),
  },
  {
    reason: 'scheduling of its own tasks; weight and quota belong to the cgroup',
    calls: words(`sched_yield sched_getaffinity sched_setaffinity sched_getparam sched_setparam sched_getscheduler sched_setscheduler
      sched_getattr sched_setattr sched_get_priority_max sched_get_priority_min sched_rr_get_interval getpriority setpriority
      ioprio_get ioprio_set getcpu`),
  },
  {
    reason: 'signals and waiting',
    calls: words(`rt_sigaction rt_sigprocmask rt_sigpending rt_sigtimedwait rt_sigqueueinfo rt_tgsigqueueinfo rt_sigsuspend rt_sigreturn
      sigaltstack pause alarm signalfd signalfd4 eventfd eventfd2 select pselect6 poll ppoll
      epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2`),
  },
  {
    reason: 'reading clocks, and timers',
    calls: words(`time gettimeofday clock_gettime clock_getres clock_nanosleep nanosleep getitimer setitimer times
      timer_create timer_settime timer_gettime timer_getoverrun timer_delete timerfd_create timerfd_settime timerfd_gettime`),
  },
  {
    reason: 'reading what the system says of itself; setting a limit has rules of its own',
    calls: words('uname sysinfo getrusage getrlimit getrandom'),
  },
  {
    reason: 'using a socket; which sockets can be made is decided at socket()',
    calls: words(`bind listen accept accept4 connect getsockname getpeername getsockopt setsockopt sendto recvfrom sendmsg recvmsg
      sendmmsg recvmmsg shutdown`),
  },
  {
    reason: 'System V shared memory and semaphores: they end with the ipc namespace and are counted by the cgroup',
    calls: words('shmget shmat shmdt shmctl semget semop semctl semtimedop'),
  },
]

/** Refused with EPERM: the answer that an unprivileged process gets from the kernel anyway, so programs cope with it. */
export const REFUSED: readonly CallGroup[] = [
  {
    reason: 'mounts and root: the view of the file system is ours to make',
    calls: words(`mount umount2 pivot_root chroot move_mount open_tree fsopen fsconfig fsmount fspick mount_setattr`),
  },
  { reason: 'namespaces: a user namespace would hand out capabilities inside', calls: words('unshare setns') },
  {
    reason: 'other processes: memory, registers, descriptors',
    calls: words('ptrace process_vm_readv process_vm_writev process_madvise process_mrelease pidfd_getfd kcmp migrate_pages move_pages'),
  },
  {
    reason: 'large kernel surfaces with a long list of local root holes',
    calls: words('bpf perf_event_open userfaultfd fanotify_init fanotify_mark'),
  },
  { reason: 'keyrings are shared by uid across namespaces', calls: words('add_key request_key keyctl') },
  { reason: 'message queues outlive their sender and pass between users', calls: words(`mq_open mq_unlink mq_timedsend mq_timedreceive
      mq_notify mq_getsetattr msgget msgsnd msgrcv msgctl`) },
  { reason: 'files by handle walk past every mount', calls: words('name_to_handle_at open_by_handle_at lookup_dcookie') },
  { reason: 'kernel code and boot', calls: words('init_module finit_module delete_module kexec_load kexec_file_load reboot') },
  { reason: 'the machine\'s clock, name, log and accounting', calls: words(`settimeofday clock_settime clock_adjtime adjtimex sethostname
      setdomainname syslog acct`) },
  { reason: 'disks of the whole machine; flushing everybody\'s writes stalls the host, fsync is enough', calls: words(`swapon swapoff
      quotactl quotactl_fd sync syncfs`) },
  { reason: 'hardware and consoles', calls: words('iopl ioperm vhangup') },
]

/**
 * Refused with ENOSYS, written out although it is the default. clone3 keeps its flags in memory, where a filter cannot look;
 * libc then takes clone. io_uring does what read, connect and openat do without passing a filter; aio counts against a
 * limit of the whole machine. With EPERM in place of ENOSYS threads cannot start.
 */
export const UNKNOWN: CallGroup = {
  reason: 'must look absent, so that libc and runtimes take the older way',
  calls: words('clone3 io_uring_setup io_uring_enter io_uring_register io_setup io_submit io_getevents io_pgetevents io_cancel io_destroy'),
}

/** x86-64 has these from its beginnings; the generic table that arm64 uses never did. */
export const X86_ONLY: ReadonlySet<string> = new Set(
  words(`access alarm arch_prctl chmod chown creat dup2 epoll_create epoll_wait eventfd fork futimesat getdents getpgrp inotify_init ioperm iopl
    lchown link lstat mkdir mknod open pause pipe poll readlink rename rmdir select signalfd stat symlink time unlink utime utimes vfork`),
)

function words(text: string): readonly string[] {
  return text.trim().split(/\s+/)
}
