package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/urfave/cli/v3"
	"golang.org/x/sync/errgroup"

	"yaosu/gate"
	"yaosu/gate/filter"
	"yaosu/gate/offline"
	"yaosu/gate/sender"
	"yaosu/scanner"
	"yaosu/schema"
)

// agentDoor is not the one of `yaosu up`, so that both run on one machine.
const agentDoor = "127.0.0.1:8687"

func scannerCommand() *cli.Command {
	return &cli.Command{
		Name:  "scanner",
		Usage: "stands beside a till and loses no scan while the network is away",
		Description: "Takes the same HTTP calls as the gate, on this machine: POST /v1/scans, /v1/nhsa/{infno},\n" +
			"/v1/check, GET /healthz, /readyz, /metrics. It answers when an event is on disk here, and\n" +
			"sends it to NATS whenever the network allows: after a power cut, after ten days, each sale\n" +
			"once and in its order. A check is asked upstream; while nobody answers there, the reply is a\n" +
			"warning with `degraded`, and says when the box was sold here before. With --gate it also keeps\n" +
			"a filter of all settled codes and says whether the box may have been settled elsewhere.\n\n" +
			"Ask who runs the system for a credential (they say `yaosu org add`), write the token into a\n" +
			"file that only the agent can read, and name the credential in the URL. Example:\n\n" +
			"  yaosu scanner --nats nats://renmin@nats.example.org:4222 --credential renmin.token \\\n" +
			"                --spool /var/lib/yaosu-scanner --org P53090200417:530902 \\\n" +
			"                --gate https://gate.example.org:8443\n\n" +
			"Then point the till to http://" + agentDoor + " and look how it is:\n\n" +
			"  yaosu scanner --status --spool /var/lib/yaosu-scanner\n\n" +
			"Events that NATS will never take are in set-aside.ndjson of the spool, with the reason. When\n" +
			"the reason is gone, stop the agent and run it once with --readmit. docs/agent.md tells all.",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "listen", Usage: "`ADDRESS` of the door, host:port; of this machine only, as there is no credential to show", Value: agentDoor},
			&cli.StringFlag{Name: "spool", Usage: "`DIR` where events wait, of this agent alone", Value: "./yaosu-spool"},
			&cli.Int64Flag{Name: "spool-bytes", Usage: "most `BYTES` of the spool; then nothing new is taken. 1 GiB is about two million events", Value: 1 << 30, Validator: atLeastOneByte},
			&cli.StringFlag{Name: "credential", Usage: "`FILE` with the token of the credential that --nats names (nats://NAME@host:4222), or a .creds file of NATS; read again at each connection"},
			&cli.StringSliceFlag{Name: "org", Usage: "`ORG:REGION` whose events are taken; several by repeating (default: any)"},
			&cli.DurationFlag{Name: "check-patience", Usage: "longest `TIME` a check waits for the answer from upstream", Value: 800 * time.Millisecond},
			&cli.BoolFlag{Name: "status", Usage: "only print what waits in the spool; the agent may run"},
			&cli.BoolFlag{Name: "readmit", Usage: "only put back what was set aside, to be sent again; the agent must not run"},
		}, agentFilterFlags()...),
		Action: runScanner,
	}
}

func atLeastOneByte(n int64) error { return atLeastOne(int(n)) }

func runScanner(ctx context.Context, cmd *cli.Command) (err error) {
	if err := noArguments(cmd); err != nil {
		return err
	}
	out, dir := cmd.Root().Writer, cmd.String("spool")
	if cmd.Bool("status") {
		st, err := scanner.Look(dir)
		if err != nil {
			return err
		}
		return printSpool(out, dir, st)
	}
	cfg := scanner.SpoolConfig{
		Dir:      dir,
		MaxBytes: cmd.Int64("spool-bytes"),
		Log:      newLog(cmd).With("part", "scanner"),
	}
	if cmd.Bool("readmit") {
		return readmit(ctx, out, cfg)
	}
	if err := upstream(cmd, &cfg); err != nil {
		return err
	}
	senders, err := agentSenders(cmd.StringSlice("org"))
	if err != nil {
		return err
	}
	fetch, err := agentFilter(cmd, cfg.Log)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", cmd.String("listen"))
	if err != nil {
		return fmt.Errorf("open the HTTP door: %w", err)
	}
	defer listener.Close()
	if !gate.Loopback(listener.Addr()) {
		return usageErrorf("--listen %s: whoever reaches it could sell for this shop, so an agent listens on this machine only, such as %s", cmd.String("listen"), agentDoor)
	}
	spool, err := scanner.Open(cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, spool.Close()) }()
	log := cfg.Log
	counted := newCounted()
	counted.spool(spool)
	answers := offline.Config{Sink: spoolSink{spool}, Conn: spool.Conn, Dir: dir, Patience: cmd.Duration("check-patience"), Log: log}
	if fetch != nil {
		if answers.Settled, err = filter.Open(filepath.Join(dir, filterDir)); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, answers.Settled.Close()) }()
	}
	agent, err := offline.Open(answers)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, agent.Close()) }()
	counted.agent(agent)
	var fetcher *filter.Fetcher
	if fetch != nil {
		counted.fetched(fetch.Metrics)
		fetch.Set, fetch.Idle = answers.Settled, agent.Idle
		if fetcher, err = filter.NewFetcher(*fetch); err != nil {
			return err
		}
	}
	door := gate.Config{
		Listener: listener,
		Senders:  senders,
		Sink:     agent,
		Refused:  spoolSink{spool},
		Check:    agent,
		Ready:    []gate.Probe{{Name: "spool", Check: func(context.Context) error { return roomIn(spool.Status()) }}},
		Metrics:  counted.registry,
		Log:      log,
		// A till or a few, on a small machine.
		MaxMemory:  32 << 20,
		MaxClients: 200,
	}
	limitMemory(agentMemory)
	log.Info("the door is open", "address", listener.Addr().String(), "spool", dir, "waiting", spool.Status().Pending)
	// The door first: what it took is on disk before the drain ends.
	drain, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var group errgroup.Group
	group.Go(func() error {
		defer stop()
		return gate.Run(ctx, door)
	})
	group.Go(func() error { return spool.Run(drain) })
	if fetcher != nil {
		group.Go(func() error { return fetcher.Run(drain) })
	}
	return group.Wait()
}

// readmit puts back what was set aside.
func readmit(ctx context.Context, out io.Writer, cfg scanner.SpoolConfig) (err error) {
	spool, err := scanner.Open(cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, spool.Close()) }()
	n, err := spool.Readmit(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%d 条搁置的事件已放回队列,启动代理后重新上传\n", n)
	return nil
}

// agentMemory is what the garbage collector keeps an agent below, see limitMemory: a
// till's machine is small.
const agentMemory = 96 << 20

// upstream says in cfg where the spool sends to, and as whom.
func upstream(cmd *cli.Command, cfg *scanner.SpoolConfig) error {
	at, err := natsAddress(cmd)
	if err != nil {
		return err
	}
	cfg.NATS = at.url
	path := cmd.String("credential")
	if path == "" {
		if name, ok := senderOf(cfg.NATS); ok {
			cfg.Options = append(cfg.Options, nats.CustomInboxPrefix(sender.InboxPrefix(name)))
		}
		return nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read the credential: %w", err)
	}
	if strings.Contains(string(text), "BEGIN NATS USER JWT") {
		cfg.Options = append(cfg.Options, nats.UserCredentials(path))
		return nil
	}
	u, err := url.Parse(cfg.NATS)
	if err != nil || u.User.Username() == "" {
		return usageErrorf("whose is the token in %s? Name it in the URL: --nats nats://NAME@host:4222", path)
	}
	name := u.User.Username()
	u.User = nil // it would be preferred to what follows
	cfg.NATS = u.String()
	log := cfg.Log
	cfg.Options = append(cfg.Options,
		nats.CustomInboxPrefix(sender.InboxPrefix(name)),
		nats.UserInfoHandler(func() (string, string) {
			text, err := os.ReadFile(path) // again: it may have been mended
			if err != nil {
				log.Error("the credential could not be read", "error", err)
			}
			return name, strings.TrimSpace(string(text))
		}))
	return nil
}

// till is who comes to an agent: somebody on this machine, without a credential, who
// speaks for the institutions of --org.
type till struct{ speaks *gate.Sender }

func (t till) Sender(context.Context, string) (*gate.Sender, error) { return t.speaks, nil }

func (t till) Certificate(context.Context, *x509.Certificate) (*gate.Sender, error) {
	return t.speaks, nil
}

// agentSenders are nil, everybody for anything, without --org.
func agentSenders(orgs []string) (gate.Senders, error) {
	if len(orgs) == 0 {
		return nil, nil
	}
	speaksFor, err := orgsOf(orgs)
	if err != nil {
		return nil, err
	}
	return till{&gate.Sender{Name: "till", Orgs: speaksFor, Reads: true}}, nil // reads the metrics; there are no lives here
}

// spoolSink is a spool behind the door, whose errors the door understands. What the
// door refuses is in it on its way to the rejects.
type spoolSink struct{ spool *scanner.Spool }

func (s spoolSink) Store(ctx context.Context, region, org string, events []json.RawMessage) error {
	return inDoorWords(s.spool.Store(ctx, region, org, events))
}

func (s spoolSink) Refuse(ctx context.Context, events []gate.RefusedEvent) error {
	for _, e := range events {
		for _, part := range e.Parts() {
			if err := s.spool.StoreRefused(ctx, part.Region, part.Org, part.Raw, part.Why); err != nil {
				return inDoorWords(err)
			}
		}
	}
	return nil
}

func inDoorWords(err error) error {
	if errors.Is(err, scanner.ErrFull) {
		return fmt.Errorf("%w: %w", gate.ErrFull, err)
	}
	return err
}

// roomIn is an error when tills should be told that something is wrong here. That the
// network is away is not.
func roomIn(st scanner.Status) error {
	if st.Bytes >= st.MaxBytes*9/10 {
		return fmt.Errorf("the spool is nearly full: %d of %d bytes", st.Bytes, st.MaxBytes)
	}
	return nil
}

// printSpool says what waits, to who stands in the shop.
func printSpool(out io.Writer, dir string, st scanner.Status) error {
	fmt.Fprintf(out, "%s:%d 条等待上传", dir, st.Pending)
	if !st.Oldest.IsZero() {
		fmt.Fprintf(out, ",最早的存于 %s", st.Oldest.In(schema.Shanghai).Format("2006-01-02 15:04:05"))
	}
	fmt.Fprintf(out, ";占用 %.1f MB\n", float64(st.Bytes)/1e6)
	if st.SetAside > 0 {
		fmt.Fprintf(out, "%d 条被搁置,见 %s(原因逐条写明;原因消除后停止代理,用 --readmit 放回)\n", st.SetAside, filepath.Join(dir, "set-aside.ndjson"))
	}
	return nil
}
