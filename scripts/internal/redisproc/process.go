package redisproc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// ErrUnsupported is returned by [Start] on systems other than Linux.
var ErrUnsupported = errors.New("starting a Redis server as a child process is supported on Linux only")

// Options says what to start.
type Options struct {
	// Binary is the path of redis-server or valkey-server. Required.
	Binary string
	// Config is the text of the configuration, given to the child on its standard
	// input, where it needs no file and shows in no process list.
	Config string
	// Args follow on the command line; for callers (tests) that override Config.
	Args []string
	// ParentDeath is the signal that the child receives when this process dies.
	// Zero = SIGTERM, on which Redis saves what it is configured to save.
	ParentDeath syscall.Signal
	// Inherit are open files that the child, and what it forks, keeps open (a
	// locked file stays locked until the last of them ends). May be nil.
	Inherit []*os.File
	// Log receives each line that the child prints, warning = marked so by it.
	// It is called by one goroutine at a time and must not block. May be nil.
	Log func(line string, warning bool)
}

// Process is a running or ended child.
type Process struct {
	cmd  *exec.Cmd
	out  lines
	done chan struct{}
	err  error // valid after done
}

// Start starts the child. That it runs does not mean that it answers yet.
func Start(o Options) (*Process, error) {
	death := o.ParentDeath
	if death == 0 {
		death = syscall.SIGTERM
	}
	attr, err := childAttr(death)
	if err != nil {
		return nil, err
	}
	p := &Process{done: make(chan struct{})}
	p.out.log = o.Log
	p.cmd = exec.Command(o.Binary, append([]string{"-"}, o.Args...)...)
	p.cmd.Stdin = strings.NewReader(o.Config)
	p.cmd.Stdout = &p.out
	p.cmd.Stderr = &p.out
	p.cmd.SysProcAttr = attr
	p.cmd.ExtraFiles = o.Inherit
	// A background save that outlives the server may hold its standard output.
	p.cmd.WaitDelay = time.Second

	started := make(chan error, 1)
	go func() {
		// The kernel ties the parent-death signal to the thread that forked, not to
		// the process. This goroutine keeps that thread for itself until the child
		// has ended; otherwise the Go runtime might end an idle thread and with it
		// the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		err = p.cmd.Wait()
		p.out.flush()
		p.err = err
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", o.Binary, err)
	}
	return p, nil
}

// Done is closed when the child has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// PID is the child's process id, and the id of its process group.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Ended describes how the child ended, with the last lines that it printed. It
// is nil while the child runs.
func (p *Process) Ended() error {
	select {
	case <-p.done:
	default:
		return nil
	}
	how := "exit status 0"
	if p.err != nil {
		how = p.err.Error()
	}
	if last := p.out.last(); last != "" {
		return fmt.Errorf("ended (%s); its last words: %s", how, last)
	}
	return fmt.Errorf("ended (%s)", how)
}

// LastLines returns the last lines that the child printed, separated by " | ".
func (p *Process) LastLines() string { return p.out.last() }

// Signal sends a signal to the child's process group. A child that has ended is
// not an error.
func (p *Process) Signal(sig syscall.Signal) error {
	select {
	case <-p.done:
		return nil // its id may belong to another process by now
	default:
	}
	if err := signalGroup(p.PID(), sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("signal %s to %s: %w", sig, p.cmd.Path, err)
	}
	return nil
}

// Stop asks the child to save and end (SIGTERM), waits for it as long as ctx
// allows, then kills its process group. It returns an error when it had to.
func (p *Process) Stop(ctx context.Context) error {
	// The server alone: its own children (background saves) it ends itself.
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", p.cmd.Path, err)
	}
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
	}
	err := p.Signal(syscall.SIGKILL)
	<-p.done // SIGKILL cannot be refused, and WaitDelay bounds what follows
	if err != nil {
		return err
	}
	return fmt.Errorf("%s did not end in time and was killed: %w", p.cmd.Path, ctx.Err())
}

// lines splits what the child prints into lines, keeps the last few and passes
// each on. exec serialises the writes, as both streams are the same writer.
type lines struct {
	log func(line string, warning bool)

	mu      sync.Mutex
	partial []byte
	tail    []string
}

const (
	tailLines   = 6
	maxLineSize = 4096
)

func (l *lines) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		head, rest, complete := bytes.Cut(p, []byte{'\n'})
		p = rest
		if room := maxLineSize - len(l.partial); len(head) > room {
			head = head[:room]
		}
		l.partial = append(l.partial, head...)
		if complete {
			l.flush()
		}
	}
	return n, nil
}

func (l *lines) flush() {
	line := strings.TrimSpace(string(l.partial))
	l.partial = l.partial[:0]
	if line == "" {
		return
	}
	line, warning := parseLine(line)
	l.mu.Lock()
	if len(l.tail) == tailLines {
		l.tail = append(l.tail[:0], l.tail[1:]...)
	}
	l.tail = append(l.tail, line)
	l.mu.Unlock()
	if l.log != nil {
		l.log(line, warning)
	}
}

func (l *lines) last() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.tail, " | ")
}

// parseLine takes process id, role and time off a line of Redis' log:
// "12:M 01 Jan 2026 10:00:00.000 # message". '#' marks a warning. What does not
// look like that (a configuration error on stderr) is a warning as it is.
func parseLine(line string) (msg string, warning bool) {
	f := strings.SplitN(line, " ", 7)
	if len(f) == 7 && strings.Contains(f[0], ":") && len(f[5]) == 1 && strings.Contains(".-*#", f[5]) {
		return f[6], f[5] == "#"
	}
	return line, true
}
