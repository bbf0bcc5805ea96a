//go:build unix

package exec

import (
	"os/exec"
	"syscall"
)

// ownGroup has the program run in a process group of its own, which is killed as
// a whole.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
