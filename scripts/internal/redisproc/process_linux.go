package redisproc

import "syscall"

// childAttr puts the child into its own process group and has the kernel signal
// it when the thread that starts it ends.
func childAttr(death syscall.Signal) (*syscall.SysProcAttr, error) {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: death}, nil
}

func signalGroup(pid int, sig syscall.Signal) error { return syscall.Kill(-pid, sig) }

// Lock takes an exclusive lock on the open file fd without waiting. It returns
// false when somebody else has it. The kernel gives it back when the last
// process that inherited the open file has ended.
func Lock(fd uintptr) (bool, error) {
	for {
		switch err := syscall.Flock(int(fd), syscall.LOCK_EX|syscall.LOCK_NB); err {
		case nil:
			return true, nil
		case syscall.EWOULDBLOCK:
			return false, nil
		case syscall.EINTR:
		default:
			return false, err
		}
	}
}
