// Command yaosu (药溯) finds drug trace codes that were sold twice: one binary,
// one verb for each part and each tool.
//
// Exit status: 0 done, 1 failed, 2 used wrongly. Results go to standard output;
// errors are one line on standard error. Flags are read here and nowhere else;
// each has an environment twin, YAOSU_ and its name in capitals.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/urfave/cli/v3"

	"yaosu/local"
)

const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// verbs are the commands, in the order of the help text.
func verbs() []*cli.Command {
	return []*cli.Command{
		upCommand(),
		ingestCommand(),
		detectCommand(),
		gateCommand(),
		publishCommand(),
		suspectsCommand(),
		reviewCommand(),
		traceCommand(),
		checkCommand(),
		rejectsCommand(),
		referenceCommand(),
		orgCommand(),
		schemaCommand(),
		loadtestCommand(),
	}
}

func main() {
	local.MaybeEngineChild()
	os.Exit(yaosu())
}

// yaosu is the program: the tests' binary runs it too.
func yaosu() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	// The second signal is for those who do not want to wait for a clean end.
	context.AfterFunc(ctx, stop)
	return run(ctx, os.Args, os.Stdin, os.Stdout, os.Stderr)
}

// run runs one command line and returns its exit status.
func run(ctx context.Context, args []string, in io.Reader, out, errs io.Writer) int {
	var inside bool
	app := application(&inside)
	app.Reader, app.Writer, app.ErrWriter = in, out, errs
	err := app.Run(ctx, args)
	if err == nil {
		return exitDone
	}
	// What fails before a verb began is how it was called.
	if _, usage := err.(usageError); usage || !inside {
		fmt.Fprintf(errs, "yaosu: %s (%s shows how)\n", oneLine(err), helpFor(app, args))
		return exitUsage
	}
	fmt.Fprintf(errs, "yaosu: %s\n", oneLine(explain(err)))
	return exitFailed
}

// application builds the command line anew; *inside turns true when a verb begins.
func application(inside *bool) *cli.Command {
	app := &cli.Command{
		Name:  "yaosu",
		Usage: "药溯: finds drug trace codes (药品追溯码) that were sold twice",
		Description: "Begin with `yaosu up`, which runs the whole system in ./yaosu-data. Then, in another\n" +
			"shell of the same directory:\n\n" +
			"  yaosu publish --wait events.ndjson\n" +
			"  yaosu detect --once\n" +
			"  yaosu suspects\n\n" +
			"The other verbs find the running system by ./yaosu-data/endpoints.json (see --data), or by\n" +
			"--nats and --clickhouse. Every flag can be set in the environment too: --nats is YAOSU_NATS.\n" +
			"Exit status: 0 done, 1 failed, 2 used wrongly.",
		Version:               version(),
		Flags:                 commonFlags(),
		Commands:              verbs(),
		EnableShellCompletion: true,
		// run prints errors and chooses the exit status, not the library.
		ExitErrHandler: func(context.Context, *cli.Command, error) {},
	}
	prepare(app, inside)
	return app
}

// prepare gives all commands the same manners.
func prepare(cmd *cli.Command, inside *bool) {
	cmd.OnUsageError = func(_ context.Context, _ *cli.Command, err error, _ bool) error { return err }
	for _, flag := range cmd.Flags {
		addTwin(flag)
	}
	if len(cmd.Commands) > 0 {
		if cmd.Action == nil {
			cmd.Action = wrongVerb
		} else {
			cmd.Action = begins(cmd.Action, inside)
		}
		for _, sub := range cmd.Commands {
			prepare(sub, inside)
		}
		return
	}
	cmd.HideHelpCommand = true // `help` may be an argument
	cmd.Action = begins(cmd.Action, inside)
}

// begins is an action that says that it began.
func begins(action cli.ActionFunc, inside *bool) cli.ActionFunc {
	return func(ctx context.Context, cmd *cli.Command) error {
		*inside = true
		return action(ctx, cmd)
	}
}

// wrongVerb is what a command that only holds others does.
func wrongVerb(_ context.Context, cmd *cli.Command) error {
	var names []string
	for _, sub := range cmd.VisibleCommands() {
		names = append(names, sub.Name)
	}
	list := strings.Join(names, ", ")
	if cmd.Args().Present() {
		return usageErrorf("%s has no verb %q, only %s", cmd.FullName(), cmd.Args().First(), list)
	}
	return usageErrorf("%s needs a verb: %s", cmd.FullName(), list)
}

// twin is the environment variable of a flag.
func twin(flag string) string {
	return "YAOSU_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// environment is the twin as a source of values. An empty variable counts as none:
// service files and Compose files cannot unset one.
type environment struct{ key string }

func (e environment) Lookup() (string, bool) {
	value := os.Getenv(e.key)
	return value, value != ""
}

func (e environment) IsFromEnv() bool  { return true }
func (e environment) Key() string      { return e.key }
func (e environment) String() string   { return "environment variable " + e.key }
func (e environment) GoString() string { return e.key }

func addTwin(flag cli.Flag) {
	sources := cli.NewValueSourceChain(environment{twin(flag.Names()[0])})
	switch f := flag.(type) {
	case *cli.StringFlag:
		f.Sources = sources
	case *cli.BoolFlag:
		f.Sources = sources
	case *cli.IntFlag:
		f.Sources = sources
	case *cli.Int64Flag:
		f.Sources = sources
	case *cli.FloatFlag:
		f.Sources = sources
	case *cli.DurationFlag:
		f.Sources = sources
	case *cli.StringSliceFlag:
		f.Sources = sources
	default:
		panic(fmt.Sprintf("flag --%s is of type %T, which addTwin does not know yet", flag.Names()[0], flag))
	}
}

// helpFor names the help that fits a command line that went wrong.
func helpFor(app *cli.Command, args []string) string {
	path := []string{"yaosu"}
	cmd := app
	for _, arg := range args[1:] {
		if sub := cmd.Command(arg); sub != nil && sub.Name != "help" {
			cmd = sub
			path = append(path, sub.Name)
		}
	}
	return "`" + strings.Join(append(path, "--help"), " ") + "`"
}

// usageError makes the exit status 2.
type usageError struct{ message string }

func (e usageError) Error() string { return e.message }

func usageErrorf(format string, args ...any) error {
	return usageError{fmt.Sprintf(format, args...)}
}

// noArguments is for verbs that take flags alone.
func noArguments(cmd *cli.Command) error {
	if cmd.Args().Present() {
		return usageErrorf("%s takes no argument, got %q", cmd.FullName(), cmd.Args().First())
	}
	return nil
}

// explain adds what to do to errors that have one common cause.
func explain(err error) error {
	text := err.Error()
	for _, sign := range []string{"UNKNOWN_TABLE", "UNKNOWN_DATABASE", "code: 60,", "code: 81,"} {
		if strings.Contains(text, sign) {
			return fmt.Errorf("%w; the schema is not there yet: run `yaosu schema apply` first", err)
		}
	}
	return err
}

// oneLine is the error without line breaks.
func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "development"
	}
	return info.Main.Version
}
