package proc

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is generous: the machine may be busy with other tests.
const patience = 2 * time.Minute

// Process is one life of a child.
type Process struct {
	t   testing.TB
	cmd *exec.Cmd

	// mu guards the pipes: one question at a time.
	mu     sync.Mutex
	stdin  io.WriteCloser
	stdout *bufio.Reader

	done chan struct{} // closed when the process is gone
	err  error         // how it ended; read after done
}

// start runs this test binary as a child of kind with cfg, and returns when it
// has said hello: its first answer. What it logs goes to output.
func start(t testing.TB, kind string, cfg, hello any, env []string, output io.Writer) (*Process, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("start a %s: %w", kind, err)
	}
	order, err := json.Marshal(cfg)
	if err != nil {
		return nil, fmt.Errorf("start a %s: %w", kind, err)
	}
	if output == nil {
		output = t.Output()
	}
	p := &Process{t: t, cmd: exec.Command(exe), done: make(chan struct{})}
	p.cmd.Env = append(append(os.Environ(), kindEnv+"="+kind, configEnv+"="+string(order)), env...)
	p.cmd.Stderr = output
	// A group of its own: when we die, the kernel ends those of it that are stopped.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start a %s: %w", kind, err)
	}
	// Not StdoutPipe: Wait would close it under a reader.
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start a %s: %w", kind, err)
	}
	p.cmd.Stdout = w
	p.stdout = bufio.NewReader(r)
	err = p.cmd.Start()
	err = errors.Join(err, w.Close())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start a %s: %w", kind, err), r.Close())
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
		p.mu.Lock()
		defer p.mu.Unlock()
		_ = r.Close() // nothing more comes
	}()
	if err := p.read(hello); err != nil {
		p.Kill()
		return nil, fmt.Errorf("start a %s: %w", kind, err)
	}
	return p, nil
}

func (p *Process) read(answer any) error {
	type line struct {
		text []byte
		err  error
	}
	lines := make(chan line, 1) // so that it can end when nobody waits any more
	go func() {
		text, err := p.stdout.ReadBytes('\n')
		lines <- line{text, err}
	}()
	select {
	case l := <-lines:
		if l.err != nil {
			return fmt.Errorf("it said nothing: %w", l.err)
		}
		return json.Unmarshal(l.text, answer)
	case <-time.After(patience):
		return fmt.Errorf("it said nothing for %s", patience)
	}
}

// ask has the child write its answer to the one question there is.
func (p *Process) ask(answer any) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, err := io.WriteString(p.stdin, "?\n"); err != nil {
		return err
	}
	return p.read(answer)
}

// Pid is the process id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Done is closed when the process is gone.
func (p *Process) Done() <-chan struct{} { return p.done }

// Alive tells whether it is not gone. A stopped one is alive.
func (p *Process) Alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Killed tells whether it is gone by SIGKILL.
func (p *Process) Killed() bool {
	var exit *exec.ExitError
	if p.Alive() || !errors.As(p.err, &exit) {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

// Wait returns how the process ended: nil for exit status 0.
func (p *Process) Wait() error {
	select {
	case <-p.done:
		return p.err
	case <-time.After(patience):
		return fmt.Errorf("process %d did not end within %s", p.Pid(), patience)
	}
}

// Kill is kill -9. It returns when the process is gone.
func (p *Process) Kill() {
	// The only error is that it is gone already.
	_ = p.cmd.Process.Kill()
	<-p.done
}

// Terminate is what a service manager does: SIGTERM, and wait. nil is exit
// status 0.
func (p *Process) Terminate() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && p.Alive() {
		return err
	}
	return p.Wait()
}

// Stop is SIGSTOP. It returns when no thread of the process runs any more.
func (p *Process) Stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	deadline := time.After(patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !p.Stopped() {
		select {
		case <-deadline:
			return fmt.Errorf("process %d did not stop within %s", p.Pid(), patience)
		case <-p.done:
			return fmt.Errorf("process %d is gone", p.Pid())
		case <-tick.C:
		}
	}
	return nil
}

// Stopped tells whether the process stands still, by Stop or by itself.
func (p *Process) Stopped() bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.Pid()))
	if err != nil {
		return false
	}
	_, after, found := strings.Cut(string(text), ") ")
	return found && strings.HasPrefix(after, "T")
}

// Continue is SIGCONT.
func (p *Process) Continue() error { return p.cmd.Process.Signal(syscall.SIGCONT) }

// Usage is what it takes now.
func (p *Process) Usage() (Usage, error) { return UsageOf(p.Pid()) }
