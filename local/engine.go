package local

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// EngineConfig says how to run the embedded ClickHouse.
type EngineConfig struct {
	// Dir holds everything of the engine: data in clickhouse/, its configuration,
	// its log engine.log (rotated at 32 MB, two old ones kept). Made when missing.
	Dir string

	// NativePort and HTTPPort are on 127.0.0.1; 0 takes a free one, which then
	// stays the same as long as the Engine lives.
	NativePort, HTTPPort int

	// Library is the path of libchdb; empty asks FindLibrary.
	Library string

	// ExtraConfig is XML put over the engine's own configuration, without the
	// outer element, for example <remote_servers> or <profiles>. Default none.
	ExtraConfig string

	// MemoryLimit is in bytes. Queries that need more fail, the engine does not.
	// Default: 4 GiB or 40 % of the machine, whichever is less.
	MemoryLimit int64

	// Log gets starts, ends and restarts of the engine. Default: nowhere.
	Log *slog.Logger

	// Command starts the child; the verb engine-child must be in it, last. The
	// library and the configuration file are appended. Default: this program, which
	// must call MaybeEngineChild first thing.
	Command []string
}

// Engine is a ClickHouse in a child process, started again when it dies.
type Engine struct {
	cfg  EngineConfig
	log  *slog.Logger
	name string   // sent with every answer over HTTP: tells this engine from a stranger on its port
	lock *os.File // the directory is this Engine's

	stop      chan struct{} // closed by Close
	done      chan struct{} // closed when supervise returned
	endErr    error         // owned by supervise until done
	closeOnce sync.Once
	closeErr  error // owned by closeOnce

	// mu guards the following; held only while reading or swapping.
	mu       sync.Mutex
	child    *child
	restarts int
}

const (
	closeGrace   = 30 * time.Second
	firstBackoff = 100 * time.Millisecond
	maxBackoff   = 10 * time.Second
	healthyAfter = time.Minute // an engine that lived so long starts with a short backoff again
	portAttempts = 5
)

// StartEngine starts the engine and returns once it answers. ctx bounds the
// start only: what still writes when ctx ends needs its database, so an Engine
// runs, and is started again when it dies, until Close.
func StartEngine(ctx context.Context, cfg EngineConfig) (*Engine, error) {
	e, err := newEngine(cfg)
	if err != nil {
		return nil, err
	}
	for attempt := 1; ; attempt++ {
		err = e.pickPorts(cfg)
		if err != nil {
			break
		}
		if err = e.startChild(ctx); err == nil {
			break
		}
		// Between our choice of a free port and the engine's use of it, another
		// program may have taken it.
		if ctx.Err() != nil || attempt == portAttempts || e.portsFree() == nil {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(err, e.lock.Close())
	}
	go e.supervise()
	return e, nil
}

func newEngine(cfg EngineConfig) (*Engine, error) {
	var err error
	if cfg.Dir == "" {
		return nil, errors.New("start the engine: no directory given")
	}
	if cfg.Library == "" {
		if cfg.Library, err = FindLibrary(); err != nil {
			return nil, err
		}
	}
	if _, err := os.Stat(cfg.Library); err != nil {
		return nil, fmt.Errorf("start the engine: %w", err)
	}
	if cfg.Dir, err = filepath.Abs(cfg.Dir); err != nil {
		return nil, fmt.Errorf("start the engine: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(cfg.Dir, "clickhouse"), 0o750); err != nil {
		return nil, fmt.Errorf("start the engine: %w", err)
	}
	if cfg.MemoryLimit <= 0 {
		cfg.MemoryLimit = defaultMemoryLimit()
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if len(cfg.Command) == 0 {
		exe, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("start the engine: %w", err)
		}
		cfg.Command = []string{exe, ChildVerb}
	}
	lock, err := lockFile(filepath.Join(cfg.Dir, "engine.lock"))
	if errors.Is(err, errLocked) {
		return nil, fmt.Errorf("start the engine: another yaosu is using %s", cfg.Dir)
	}
	if err != nil {
		return nil, fmt.Errorf("start the engine: %w", err)
	}
	return &Engine{
		cfg:  cfg,
		log:  cfg.Log,
		name: "yaosu-" + rand.Text(),
		lock: lock,
		stop: make(chan struct{}),
		done: make(chan struct{}),
	}, nil
}

// HTTPAddr is host:port of the HTTP interface.
func (e *Engine) HTTPAddr() string { return loopback(e.cfg.HTTPPort) }

// NativeDSN addresses the database yaosu over the native protocol.
func (e *Engine) NativeDSN() string {
	return "clickhouse://" + loopback(e.cfg.NativePort) + "/yaosu"
}

// HTTPDSN addresses the database yaosu over HTTP.
func (e *Engine) HTTPDSN() string { return "http://" + e.HTTPAddr() + "/yaosu" }

// Restarts is how often the engine died by itself and was started again.
func (e *Engine) Restarts() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.restarts
}

// Pid is the process id of the newest child.
func (e *Engine) Pid() int { return e.current().cmd.Process.Pid }

// Kill ends the child as a crash would. It is there for tests.
func (e *Engine) Kill() {
	e.current().kill()
}

// Close ends the engine cleanly, or by force when that takes longer than half a
// minute, and returns when it is gone: nil when it ended cleanly. The engine
// waits five seconds for clients that are still connected. It is safe to call
// twice.
func (e *Engine) Close() error {
	e.closeOnce.Do(func() {
		close(e.stop)
		<-e.done
		e.closeErr = errors.Join(e.endErr, e.lock.Close())
	})
	return e.closeErr
}

func (e *Engine) current() *child {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.child
}

// supervise starts the child again whenever it dies, until Close.
func (e *Engine) supervise() {
	defer close(e.done)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		<-e.stop
		cancel()
	}()
	backoff := firstBackoff
	for {
		running := e.current()
		select {
		case <-running.exited:
		case <-e.stop:
			if err := running.end(closeGrace); err != nil {
				e.endErr = fmt.Errorf("end the engine: %w", err)
			}
			return
		}
		lived := time.Since(running.started)
		e.log.Error("the engine died; starting it again", "err", running.failure(), "lived", lived, "backoff", backoff)
		if lived >= healthyAfter {
			backoff = firstBackoff
		}
		for {
			select {
			case <-time.After(backoff):
			case <-e.stop:
				return
			}
			backoff = min(2*backoff, maxBackoff)
			err := e.startChild(ctx)
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				return
			}
			e.log.Error("the engine does not start; trying again", "err", err, "backoff", backoff)
		}
		e.mu.Lock()
		e.restarts++
		restarts := e.restarts
		e.mu.Unlock()
		e.log.Info("the engine is back", "pid", e.Pid(), "restarts", restarts)
	}
}

// startChild returns when a new child answers, or has failed and is gone.
func (e *Engine) startChild(ctx context.Context) error {
	if err := e.writeConfig(); err != nil {
		return fmt.Errorf("start the engine: %w", err)
	}
	// The last child may still be ending, or be an orphan of a killed parent that
	// has not noticed yet. It holds this lock until the kernel has buried it.
	lock, err := waitLockFile(ctx, filepath.Join(e.cfg.Dir, "engine-child.lock"))
	if err != nil {
		return fmt.Errorf("start the engine: wait for the last one to end: %w", err)
	}
	c, err := startChild(append(e.cfg.Command[:len(e.cfg.Command):len(e.cfg.Command)],
		e.cfg.Library, e.configFile()), lock)
	// The child has its own copy of the lock, which ends with it and not with us.
	err = errors.Join(err, lock.Close())
	if err != nil {
		return fmt.Errorf("start the engine: %w", err)
	}
	if err := e.waitReady(ctx, c); err != nil {
		c.kill()
		<-c.exited
		return err
	}
	e.mu.Lock()
	e.child = c
	e.mu.Unlock()
	e.log.Debug("the engine answers", "pid", c.cmd.Process.Pid, "native", e.cfg.NativePort, "http", e.cfg.HTTPPort,
		"took", time.Since(c.started))
	return nil
}

func (e *Engine) waitReady(ctx context.Context, c *child) error {
	client := &http.Client{
		Timeout:   2 * time.Second,
		Transport: &http.Transport{DisableKeepAlives: true},
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("start the engine: it does not answer yet: %w", ctx.Err())
		case <-c.exited:
			return fmt.Errorf("start the engine: %w", c.failure())
		case <-tick.C:
		}
		if e.answers(ctx, client) {
			return nil
		}
	}
}

// answers tells whether this engine, and not some other program, answers on its
// HTTP port. The native port was opened before that one.
func (e *Engine) answers(ctx context.Context, client *http.Client) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+e.HTTPAddr()+"/?query=SELECT+1", nil)
	if err != nil {
		return false
	}
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 16))
	return err == nil && string(body) == "1\n" &&
		resp.Header.Get("X-ClickHouse-Server-Display-Name") == e.name
}

// pickPorts settles the ports that cfg leaves open.
func (e *Engine) pickPorts(cfg EngineConfig) error {
	var err error
	if e.cfg.NativePort, err = freePort(cfg.NativePort); err != nil {
		return fmt.Errorf("start the engine: native port: %w", err)
	}
	if e.cfg.HTTPPort, err = freePort(cfg.HTTPPort); err != nil {
		return fmt.Errorf("start the engine: HTTP port: %w", err)
	}
	return nil
}

func (e *Engine) portsFree() error {
	_, native := freePort(e.cfg.NativePort)
	_, http := freePort(e.cfg.HTTPPort)
	return errors.Join(native, http)
}

// freePort returns port when nobody listens on it; for 0, one that is free.
func freePort(port int) (int, error) {
	if port != 0 {
		l, err := net.Listen("tcp", loopback(port))
		if err != nil {
			return 0, err
		}
		return port, l.Close()
	}
	// Below the range from which the kernel serves outgoing connections: there, any
	// client could sit on the port while the engine is being started again.
	const low, high = 20_000, 32_000
	var err error
	for range 100 {
		if port, err = freePort(low + mathrand.IntN(high-low)); err == nil {
			return port, nil
		}
	}
	return 0, err
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// child is one life of the engine.
type child struct {
	cmd     *exec.Cmd
	pipe    *os.File // our end; the child ends when it is closed
	output  *tail
	started time.Time
	exited  chan struct{} // closed when the process is gone
	err     error         // how it ended; read after exited
}

// startChild runs command with the lock and the pipe's end inherited.
func startChild(command []string, lock *os.File) (*child, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	c := &child{
		cmd:     exec.Command(command[0], command[1:]...),
		pipe:    w,
		output:  &tail{},
		started: time.Now(),
		exited:  make(chan struct{}),
	}
	c.cmd.Stdout = c.output
	c.cmd.Stderr = c.output
	c.cmd.ExtraFiles = []*os.File{r, lock} // descriptors 3 (stopFD) and 4
	// The zone is the engine's default for dates: all of this is about China.
	c.cmd.Env = append(os.Environ(), childEnv+"=1", "TZ=Asia/Shanghai")
	// A group of its own: Ctrl-C on the terminal is for us, and we stop the engine
	// after its clients. Not Pdeathsig: that fires when the thread that happened to
	// start the child ends, and it would leave no time for a clean end.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = c.cmd.Start()
	err = errors.Join(err, r.Close())
	if err != nil {
		return nil, errors.Join(err, w.Close())
	}
	go func() {
		c.err = c.cmd.Wait()
		c.letGo()
		close(c.exited)
	}()
	return c, nil
}

// letGo closes our end of the pipe, which is the order to end.
func (c *child) letGo() {
	// The only error is that it is closed already.
	_ = c.pipe.Close()
}

// end asks the child to end, and kills it when it has not after grace.
func (c *child) end(grace time.Duration) error {
	c.letGo()
	select {
	case <-c.exited:
		if c.err != nil {
			return c.failure()
		}
		return nil
	case <-time.After(grace):
		c.kill()
		<-c.exited
		return fmt.Errorf("it took longer than %s, and was killed", grace)
	}
}

func (c *child) kill() {
	// The only error is that it is gone already.
	_ = c.cmd.Process.Kill()
}

// failure says how the child ended, with its last words.
func (c *child) failure() error {
	how := "exit status 0"
	if c.err != nil {
		how = c.err.Error()
	}
	if words := strings.TrimSpace(c.output.String()); words != "" {
		return fmt.Errorf("%s: %s", how, words)
	}
	return errors.New(how)
}

// tail keeps the last few kilobytes written to it.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

const tailBytes = 4 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if extra := len(t.buf) - tailBytes; extra > 0 {
		t.buf = append(t.buf[:0], t.buf[extra:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}
