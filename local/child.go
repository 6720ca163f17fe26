package local

import (
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"syscall"
	"time"
	"unsafe"

	"github.com/ebitengine/purego"
)

const (
	// ChildVerb is the hidden verb that runs the engine in a process of its own.
	ChildVerb = "engine-child"

	// childEnv tells a program that it was started to be the engine, whatever
	// program it is: the tests of any package can start engines that way.
	childEnv = "YAOSU_ENGINE_CHILD"

	// stopFD is the reading end of a pipe that the parent holds open. Nothing is
	// ever written: its end is the order to stop, also when the parent was killed.
	stopFD = 3

	// childGrace is how long the engine may take to end once the pipe ended.
	childGrace = 20 * time.Second
)

// MaybeEngineChild turns this process into the engine, and never returns, when
// an Engine started it for that; otherwise it does nothing. Programs and
// TestMains that start engines call it first of all.
func MaybeEngineChild() {
	if os.Getenv(childEnv) == "" {
		return
	}
	at := slices.Index(os.Args, ChildVerb)
	if at < 0 {
		fmt.Fprintf(os.Stderr, "%s is set, but %s is not among the arguments\n", childEnv, ChildVerb)
		os.Exit(2)
	}
	os.Exit(EngineChild(os.Args[at+1:]))
}

// EngineChild is the engine: it opens the library (first argument) with the
// configuration file (second argument) and returns the exit status of the
// process once the parent closed the pipe or died.
func EngineChild(args []string) int {
	if len(args) != 2 {
		fmt.Fprintf(os.Stderr, "%s is started by yaosu itself and takes a library and a configuration file\n", ChildVerb)
		return 2
	}
	stop := os.NewFile(stopFD, "stop")
	if info, err := stop.Stat(); err != nil || info.Mode()&os.ModeNamedPipe == 0 {
		fmt.Fprintf(os.Stderr, "%s is started by yaosu itself: no pipe to the parent\n", ChildVerb)
		return 2
	}

	// A service manager signals every process of a service at once. The engine
	// must outlast the parts that still write to it, so only the pipe stops it.
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)

	// The engine writes to clients that have gone. On its threads, which are not
	// Go's, the signal that says so would end the process.
	signal.Ignore(syscall.SIGPIPE)

	go func() {
		// The engine waits on the pipe with an own descriptor. This is for one that
		// is stuck, or that had not come so far when the parent died.
		var b [1]byte
		_, _ = stop.Read(b[:]) // end or error: the parent is gone either way
		time.Sleep(childGrace)
		os.Exit(1)
	}()

	if err := runEngine(args[0], args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// engineQuery makes a server of clickhouse-local: its last statement reads the
// pipe, and so blocks until the parent lets go.
var engineQuery = fmt.Sprintf(`
CREATE DATABASE IF NOT EXISTS yaosu;
SYSTEM START LISTEN TCP;
SYSTEM START LISTEN HTTP;
SELECT count() FROM file('/dev/fd/%d', 'LineAsString', 'line String') FORMAT Null`, stopFD)

func runEngine(library, config string) error {
	lib, err := purego.Dlopen(library, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return fmt.Errorf("open the engine's library: %w", err)
	}
	var queryCmdline func(argc int32, argv unsafe.Pointer) unsafe.Pointer
	var resultError func(result unsafe.Pointer) string
	for name, fn := range map[string]any{
		"chdb_query_cmdline": &queryCmdline,
		"chdb_result_error":  &resultError,
	} {
		symbol, err := purego.Dlsym(lib, name)
		if err != nil {
			return fmt.Errorf("%s is no libchdb this program can use: %w", library, err)
		}
		purego.RegisterFunc(fn, symbol)
	}

	argv, pin := cStrings([]string{
		"clickhouse",
		"--config-file=" + config,
		"--log-level=information", // the logger section's own level is not looked at
		"--query=" + engineQuery,
	})
	defer pin.Unpin()
	result := queryCmdline(int32(len(argv)-1), unsafe.Pointer(&argv[0]))
	if result == nil {
		return fmt.Errorf("run the engine: no result")
	}
	// The result is not freed: the process ends now.
	if text := resultError(result); text != "" {
		return fmt.Errorf("run the engine: %s", text)
	}
	return nil
}

// cStrings returns args as C wants them: each ended by a zero byte, and the list
// by a null pointer.
func cStrings(args []string) ([]unsafe.Pointer, *runtime.Pinner) {
	pin := new(runtime.Pinner)
	argv := make([]unsafe.Pointer, len(args)+1)
	pin.Pin(&argv[0])
	for i, arg := range args {
		b := append([]byte(arg), 0)
		pin.Pin(&b[0])
		argv[i] = unsafe.Pointer(&b[0])
	}
	return argv, pin
}
