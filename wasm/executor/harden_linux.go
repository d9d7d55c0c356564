package executor

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/sys/unix"
)

// kept are the capabilities that a child of root keeps: those by which it
// reaches the files that the node gives its guests, whoever owns them.
var kept = []int{unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_DAC_READ_SEARCH, unix.CAP_FOWNER}

// maxFiles bounds the file descriptors of a child: guests that leak them must
// not take the machine's.
const maxFiles = 1 << 17

// shed has this thread and what it starts lose for good what no executor
// needs. The thread must not be used for anything else afterwards.
func shed() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	if os.Geteuid() != 0 {
		return nil // it has none
	}
	for c := range unix.CAP_LAST_CAP + 1 {
		if slices.Contains(kept, c) {
			continue
		}
		// EINVAL: an older kernel, which has no such capability. EPERM: root
		// without the right to do so, as in some containers.
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
	return nil
}

// closeOnExec keeps from children what this process was given open by whoever
// started it; Go's own files are marked so anyway.
func closeOnExec() {
	_ = unix.CloseRange(3, ^uint(0)>>1, unix.CLOSE_RANGE_CLOEXEC) // an older kernel has no such call
}

// settle is called first in a child.
func settle(log *slog.Logger) {
	unix.Umask(0o077)
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		log.Warn("a crash may write the guests' memory to disk", "err", err)
	}
	var files unix.Rlimit
	err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files)
	if err == nil && files.Max > maxFiles {
		files.Max, files.Cur = maxFiles, maxFiles
		err = unix.Setrlimit(unix.RLIMIT_NOFILE, &files)
	}
	if err != nil {
		log.Warn("the number of open files is not bounded", "err", err)
	}
}

// harden is called when a child has opened all that it listens on, before the
// first guest.
func harden(s Sandboxing, log *slog.Logger) {
	if s.NoFilter {
		log.Info("system calls of the executor are not filtered: a setting says so")
		return
	}
	if err := filter(); err != nil {
		log.Warn("system calls of the executor are not filtered", "err", err)
	}
}

// filter has the kernel refuse, to all threads, the system calls that neither
// Go nor the runtime needs, with EPERM. It allows by name whatever is not
// refused, so that those of another architecture, or newer than the list of
// names, are refused as well.
func filter() error {
	info, err := arch.GetInfo("")
	if err != nil {
		return fmt.Errorf("learn the names of system calls: %w", err)
	}
	var allowed []string
	for name := range info.SyscallNames {
		if !slices.Contains(refused, name) {
			allowed = append(allowed, name)
		}
	}
	slices.Sort(allowed)
	// The two with conditions come last, in this order: one that fails its
	// condition is compared with what follows by its argument, not its number.
	policy := seccomp.Policy{
		DefaultAction: seccomp.ActionErrno,
		Syscalls: []seccomp.SyscallGroup{
			{Action: seccomp.ActionAllow, Names: allowed},
			// The C library takes this error for an older kernel, and then
			// starts threads in the way that can be told apart.
			{Action: seccomp.ActionErrno | seccomp.Action(unix.ENOSYS), Names: []string{"clone3"}},
			{Action: seccomp.ActionAllow, NamesWithCondtions: []seccomp.NameWithConditions{{
				Name: "tgkill", Conditions: seccomp.ArgumentConditions{{Argument: 0, Operation: seccomp.Equal, Value: uint64(os.Getpid())}},
			}}},
			{Action: seccomp.ActionAllow, NamesWithCondtions: []seccomp.NameWithConditions{{
				Name: "clone", Conditions: seccomp.ArgumentConditions{{Argument: 0, Operation: seccomp.BitsSet, Value: unix.CLONE_THREAD}},
			}}},
		},
	}
	runtime.LockOSThread() // no_new_privs is a thread's own, until the filter brings it to all
	defer runtime.UnlockOSThread()
	if err := seccomp.LoadFilter(seccomp.Filter{NoNewPrivs: true, Flag: seccomp.FilterFlagTSync, Policy: policy}); err != nil {
		return err
	}
	// The kernel's answer for a thread that could not take the filter is no
	// error to the library.
	if _, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); !errors.Is(err, unix.EPERM) {
		return errors.New("the filter was loaded and has no effect")
	}
	return nil
}

// refused are system calls with which a guest that broke out could leave the
// process, reach the network or other processes, or change the machine. clone3
// and the last two are allowed in part.
var refused = []string{
	// Programs and processes.
	"execve", "execveat", "fork", "vfork", "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "process_mrelease",
	"kcmp", "pidfd_open", "pidfd_getfd", "pidfd_send_signal", "kill", "tkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo",
	"unshare", "setns", "personality", "modify_ldt", "uselib",
	// Sockets: those that it has are open.
	"socket", "socketpair", "connect", "bind", "listen", "socketcall",
	// Mounts and devices.
	"mount", "umount", "umount2", "pivot_root", "chroot", "move_mount", "open_tree", "open_tree_attr", "fsopen", "fsconfig", "fsmount",
	"fspick", "mount_setattr", "listmount", "statmount", "mknod", "mknodat", "swapon", "swapoff", "quotactl", "quotactl_fd", "acct",
	"name_to_handle_at", "open_by_handle_at", "fanotify_init", "fanotify_mark", "lookup_dcookie", "ustat", "sysfs", "nfsservctl",
	// The kernel.
	"reboot", "kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module", "create_module", "query_module",
	"get_kernel_syms", "bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "io_uring_enter", "io_uring_register", "syslog", "_sysctl",
	"settimeofday", "clock_settime", "clock_adjtime", "adjtimex", "stime", "iopl", "ioperm", "vhangup", "sethostname", "setdomainname",
	// Keys, users and what processes share.
	"keyctl", "add_key", "request_key", "setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setfsuid", "setfsgid",
	"setgroups", "capset", "msgget", "semget", "shmget", "shmat", "mq_open", "mq_unlink", "mbind", "set_mempolicy",
	"set_mempolicy_home_node", "migrate_pages", "move_pages", "memfd_secret",
	// In part.
	"clone3", "tgkill", "clone",
}
