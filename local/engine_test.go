package local_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"yaosu/internal/enginetest"
	"yaosu/local"
)

func open(t *testing.T, dsn string) driver.Conn {
	t.Helper()
	opts, err := clickhouse.ParseDSN(dsn)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := clickhouse.Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Errorf("close %s: %v", dsn, err)
		}
	})
	return conn
}

func execute(t *testing.T, conn driver.Conn, query string, args ...any) {
	t.Helper()
	if err := conn.Exec(t.Context(), query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func text(t *testing.T, conn driver.Conn, query string) string {
	t.Helper()
	var s string
	if err := conn.QueryRow(t.Context(), query).Scan(&s); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return s
}

func wantText(t *testing.T, conn driver.Conn, query, want string) {
	t.Helper()
	if got := text(t, conn, query); got != want {
		t.Errorf("%s\n got: %s\nwant: %s", query, got, want)
	}
}

func createBoxes(t *testing.T, conn driver.Conn) {
	t.Helper()
	execute(t, conn, "CREATE TABLE boxes (id UInt64) ENGINE = MergeTree ORDER BY id")
}

func insertBoxes(t *testing.T, conn driver.Conn, from, n int) {
	t.Helper()
	batch, err := conn.PrepareBatch(t.Context(), "INSERT INTO boxes")
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if err := batch.Append(uint64(from + i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := batch.Send(); err != nil {
		t.Fatalf("insert %d rows: %v", n, err)
	}
}

func TestEngine(t *testing.T) {
	dir := t.TempDir()
	e := startEngine(t, local.EngineConfig{Dir: dir})

	native, http := open(t, e.NativeDSN()), open(t, e.HTTPDSN())
	createBoxes(t, native)
	insertBoxes(t, native, 0, 1000)
	insertBoxes(t, http, 1000, 1000)
	for name, conn := range map[string]driver.Conn{"native": native, "http": http} {
		t.Run("what was inserted either way is seen over "+name, func(t *testing.T) {
			wantText(t, conn, "SELECT toString(uniqExact(id)) FROM boxes", "2000")
			wantText(t, conn, "SELECT currentDatabase()", "yaosu")
		})
	}
	t.Run("the settings are the documented ones", func(t *testing.T) {
		wantText(t, http, "SELECT timezone()", "Asia/Shanghai")
		wantText(t, http, "SELECT value FROM system.settings WHERE name = 'async_insert'", "0")
		wantText(t, http, "SELECT value FROM system.server_settings WHERE name = 'max_server_memory_usage'", strconv.Itoa(1<<30))
	})
	t.Run("a mutation ends", func(t *testing.T) {
		execute(t, http, "ALTER TABLE boxes DELETE WHERE id = 1 SETTINGS mutations_sync = 1")
		wantText(t, http, "SELECT toString(count()) FROM boxes", "1999")
	})
	t.Run("a query that needs too much memory fails, and nothing else", func(t *testing.T) {
		err := http.Exec(t.Context(), "SELECT length(groupArray(repeat(toString(number), 100))) FROM numbers(100000000) FORMAT Null")
		if err == nil || !strings.Contains(err.Error(), "MEMORY_LIMIT") && !strings.Contains(err.Error(), "memory limit") {
			t.Errorf("got %v, want: memory limit exceeded", err)
		}
		wantText(t, http, "SELECT toString(count()) FROM boxes", "1999")
	})
	t.Run("nobody but this machine can connect", func(t *testing.T) {
		for _, ip := range otherAddresses(t) {
			_, port, err := net.SplitHostPort(e.HTTPAddr())
			if err != nil {
				t.Fatal(err)
			}
			if conn, err := net.Dial("tcp", net.JoinHostPort(ip, port)); err == nil {
				conn.Close()
				t.Errorf("connected to %s", conn.RemoteAddr())
			}
		}
	})
	t.Run("Ctrl-C and a service manager's SIGTERM leave it running", func(t *testing.T) {
		for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
			if err := syscall.Kill(e.Pid(), sig); err != nil {
				t.Fatal(err)
			}
		}
		wantText(t, http, "SELECT toString(count()) FROM boxes", "1999")
		if got := e.Restarts(); got != 0 {
			t.Errorf("got %d restarts, want 0", got)
		}
	})

	pid := e.Pid()
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	t.Run("after Close its process is gone", func(t *testing.T) {
		if alive(pid) {
			t.Errorf("process %d is still there", pid)
		}
	})
	t.Run("started again on its directory it has its rows", func(t *testing.T) {
		e := startEngine(t, local.EngineConfig{Dir: dir})
		wantText(t, open(t, e.NativeDSN()), "SELECT toString(count()) FROM boxes", "1999")
	})
}

// The kernel signals SIGPIPE to a thread that writes to a client who has gone. The
// library blocks it in most of its threads, and now and then in fewer: so the
// process must ignore it, and not only outlive it today.
func TestEngineOutlivesItsClients(t *testing.T) {
	e := startEngine(t, local.EngineConfig{Dir: t.TempDir()})
	conn := open(t, e.NativeDSN())
	wantText(t, conn, "SELECT 'here'", "here")
	process := fmt.Sprintf("/proc/%d/", e.Pid())
	status, err := os.ReadFile(process + "status")
	if err != nil {
		t.Fatal(err)
	}
	_, mask, _ := strings.Cut(string(status), "SigIgn:")
	mask, _, _ = strings.Cut(strings.TrimSpace(mask), "\n")
	ignored, err := strconv.ParseUint(mask, 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	if ignored>>(syscall.SIGPIPE-1)&1 == 0 {
		t.Errorf("the signals %s are ignored, want SIGPIPE among them", mask)
	}
	threads, err := os.ReadDir(process + "task")
	if err != nil {
		t.Fatal(err)
	}
	for _, thread := range threads {
		tid, err := strconv.Atoi(thread.Name())
		if err != nil {
			t.Fatal(err)
		}
		// One that has ended meanwhile is none to signal.
		if _, _, errno := syscall.RawSyscall(syscall.SYS_TGKILL, uintptr(e.Pid()), uintptr(tid), uintptr(syscall.SIGPIPE)); errno != 0 && errno != syscall.ESRCH {
			t.Fatal(errno)
		}
	}
	wantText(t, conn, "SELECT 'still here'", "still here")
	if got := e.Restarts(); got != 0 {
		t.Errorf("got %d restarts, want 0", got)
	}
}

func TestEngineComesBackWhenItDies(t *testing.T) {
	e := startEngine(t, local.EngineConfig{Dir: t.TempDir()})
	conn := open(t, e.HTTPDSN())
	createBoxes(t, conn)
	native, addr := e.NativeDSN(), e.HTTPAddr()
	for death := 1; death <= 2; death++ {
		insertBoxes(t, conn, 100*death, 100)
		old := e.Pid()
		e.Kill()
		enginetest.Eventually(t, "the engine was started again", func() bool { return e.Restarts() == death })
		if e.Pid() == old {
			t.Errorf("got process %d again, want a new one", old)
		}
		if e.NativeDSN() != native || e.HTTPAddr() != addr {
			t.Errorf("got %s and %s, want the addresses of before: %s and %s", e.NativeDSN(), e.HTTPAddr(), native, addr)
		}
		wantText(t, open(t, e.NativeDSN()), "SELECT toString(count()) FROM boxes", strconv.Itoa(100*death))
	}
}

func TestEngineRefusesToStart(t *testing.T) {
	t.Run("without the library, and says what to do", func(t *testing.T) {
		t.Chdir(t.TempDir())
		t.Setenv(local.LibraryEnv, "")
		_, err := local.StartEngine(t.Context(), local.EngineConfig{Dir: t.TempDir()})
		if !errors.Is(err, local.ErrNoLibrary) {
			t.Fatalf("got %v, want %v", err, local.ErrNoLibrary)
		}
		for _, want := range []string{"make engine", "npm ci", "YAOSU_LIBCHDB", "--clickhouse"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("got %q, want %s named in it", err, want)
			}
		}
	})
	t.Run("with a variable that points nowhere, and names it", func(t *testing.T) {
		t.Setenv(local.LibraryEnv, "/nowhere/libchdb.so")
		_, err := local.StartEngine(t.Context(), local.EngineConfig{Dir: t.TempDir()})
		if err == nil || !strings.Contains(err.Error(), "YAOSU_LIBCHDB") {
			t.Errorf("got %v, want YAOSU_LIBCHDB named", err)
		}
	})
	t.Run("with a library that is none", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "libchdb.so")
		if err := os.WriteFile(path, []byte("no library"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := local.StartEngine(t.Context(), local.EngineConfig{Dir: t.TempDir(), Library: path})
		if err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("got %v, want %s named", err, path)
		}
	})
	t.Run("on a directory that another engine uses", func(t *testing.T) {
		dir := t.TempDir()
		e := startEngine(t, local.EngineConfig{Dir: dir})
		_, err := local.StartEngine(t.Context(), local.EngineConfig{Dir: dir})
		if want := "another yaosu is using " + dir; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want: %s", err, want)
		}
		wantText(t, open(t, e.HTTPDSN()), "SELECT 'fine'", "fine")
	})
	t.Run("on a port that is taken", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		port := l.Addr().(*net.TCPAddr).Port
		_, err = local.StartEngine(t.Context(), local.EngineConfig{Dir: t.TempDir(), HTTPPort: port})
		if !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("got %v, want %v", err, syscall.EADDRINUSE)
		}
	})
	t.Run("on a port that is taken at the last moment", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		// Our own check looks at another port than the engine then takes.
		for _, which := range []string{"tcp_port", "http_port"} {
			extra := fmt.Sprintf("<%s replace='1'>%d</%[1]s>", which, l.Addr().(*net.TCPAddr).Port)
			_, err = local.StartEngine(t.Context(), local.EngineConfig{Dir: t.TempDir(), ExtraConfig: extra})
			if err == nil || !strings.Contains(err.Error(), "Address already in use") {
				t.Errorf("%s: got %v, want: Address already in use", which, err)
			}
		}
	})
	t.Run("with configuration that is no XML, with the engine's own words", func(t *testing.T) {
		_, err := local.StartEngine(t.Context(), local.EngineConfig{Dir: t.TempDir(), ExtraConfig: "<unclosed>"})
		if err == nil || !strings.Contains(err.Error(), "extra.xml") {
			t.Errorf("got %v, want extra.xml named", err)
		}
	})
}

// Two engines that know each other are a cluster, as far as queries go.
func TestExtraConfigMakesACluster(t *testing.T) {
	other := startEngine(t, local.EngineConfig{Dir: t.TempDir()})
	otherConn := open(t, other.NativeDSN())
	createBoxes(t, otherConn)
	insertBoxes(t, otherConn, 0, 10)

	address := strings.TrimSuffix(strings.TrimPrefix(other.NativeDSN(), "clickhouse://"), "/yaosu")
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	e := startEngine(t, local.EngineConfig{Dir: t.TempDir(), ExtraConfig: fmt.Sprintf(`
		<remote_servers><both>
			<shard><replica><host>%s</host><port>%s</port></replica></shard>
		</both></remote_servers>
		<profiles><default><max_threads>1</max_threads></default></profiles>`, host, port)})
	conn := open(t, e.HTTPDSN())
	wantText(t, conn, "SELECT toString(count()) FROM cluster('both', 'yaosu', 'boxes')", "10")
	wantText(t, conn, "SELECT value FROM system.settings WHERE name = 'max_threads'", "1")
	wantText(t, conn, "SELECT value FROM system.settings WHERE name = 'async_insert'", "0")
}

// Endpoints is what a helper process tells its test.
type endpoints struct {
	Pid    int
	Native string
}

// maybeParent makes this test binary a helper process that starts an engine,
// says where it is, and then waits to be killed.
func maybeParent() {
	dir := os.Getenv("YAOSU_TEST_PARENT")
	if dir == "" {
		return
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	e, err := local.StartEngine(ctx, local.EngineConfig{Dir: dir, MemoryLimit: 1 << 30, Log: log})
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(endpoints{Pid: e.Pid(), Native: e.NativeDSN()})
	}
	if err != nil {
		log.Error("helper process", "err", err)
		os.Exit(1)
	}
	// Ends when the test that started this process dies.
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

func TestNoEngineOutlivesItsParent(t *testing.T) {
	dir := t.TempDir()
	for round := 1; round <= 2; round++ {
		parent := exec.Command(os.Args[0])
		parent.Env = append(os.Environ(), "YAOSU_TEST_PARENT="+dir)
		parent.Stderr = t.Output()
		stdin, err := parent.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		defer stdin.Close()
		stdout, err := parent.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := parent.Start(); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(stdout).ReadBytes('\n')
		if err != nil {
			t.Fatalf("read from the helper: %v", err)
		}
		var at endpoints
		if err := json.Unmarshal(line, &at); err != nil {
			t.Fatal(err)
		}
		conn := open(t, at.Native)
		if round == 1 {
			createBoxes(t, conn)
		}
		insertBoxes(t, conn, 10*round, 10)

		if err := parent.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = parent.Wait() // it was killed, and says so
		if round == 1 {
			// The next parent starts at once, and has to wait for the orphan itself.
			continue
		}
		enginetest.Eventually(t, "the orphaned engine is gone", func() bool { return !alive(at.Pid) })
	}
	e := startEngine(t, local.EngineConfig{Dir: dir})
	wantText(t, open(t, e.NativeDSN()), "SELECT toString(count()) FROM boxes", "20")
}

// alive tells whether the process runs; one that only waits for its parent to
// take note of its end does not.
func alive(pid int) bool {
	if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil && strings.Contains(string(stat), ") Z ") {
		return false
	}
	return syscall.Kill(pid, 0) == nil
}

func otherAddresses(t *testing.T) []string {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	var ips []string
	for _, addr := range addrs {
		if ip, ok := addr.(*net.IPNet); ok && !ip.IP.IsLoopback() && ip.IP.To4() != nil {
			ips = append(ips, ip.IP.String())
		}
	}
	return ips
}
