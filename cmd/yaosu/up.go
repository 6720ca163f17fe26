package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/urfave/cli/v3"
	"golang.org/x/sync/errgroup"

	"yaosu/detect"
	"yaosu/gate"
	"yaosu/gate/sender"
	"yaosu/ingest"
	"yaosu/local"
	"yaosu/schema"
)

func upCommand() *cli.Command {
	return &cli.Command{
		Name:  "up",
		Usage: "runs the whole system on this machine, until it is stopped",
		Description: "NATS and ClickHouse run inside, with their files in --data; with --clickhouse a ClickHouse\n" +
			"of yours is used instead. When everything answers, the addresses are printed and written to\n" +
			"endpoints.json in --data, where the other verbs look. Ctrl-C or SIGTERM stores what is held and\n" +
			"ends it (a second one ends it at once); started again on the same directory it goes on, with\n" +
			"the same ports while they are free. The first start makes person.key there: keep a copy, no\n" +
			"other key fits the data.\n\n" +
			"It is open to who is on this machine, and to nobody else, until `yaosu org add` makes the first\n" +
			"credential; see --senders. Who comes with a credential is held to it in any case.\n\n" +
			"Example:\n" +
			"  yaosu up --data ./yaosu-data",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "http", Usage: "`ADDRESS` of the HTTP door, host:port (default: the one of before, " + defaultDoor + " or a free port)"},
			&cli.IntFlag{Name: "nats-port", Usage: "`PORT` of NATS on 127.0.0.1 (default: the one of before or a free one)"},
			&cli.IntFlag{Name: "clickhouse-port", Usage: "`PORT` of ClickHouse's native protocol on 127.0.0.1 (default: the one of before or a free one)"},
			&cli.IntFlag{Name: "clickhouse-http-port", Usage: "`PORT` of ClickHouse's HTTP interface on 127.0.0.1 (default: the one of before or a free one)"},
			&cli.StringFlag{Name: "nats-sync", Usage: "when the disk must confirm what NATS acknowledges: `WHEN` is always (before it does; a power cut loses nothing) or interval (every 2 minutes; faster, most of all for messages of one event)", Value: "interval", Validator: oneOf("interval", "always")},
			&cli.DurationFlag{Name: "detect-every", Usage: "how often (`TIME`) the detectors look whether anything came in", Value: 10 * time.Second},
		}, append(doorFlags(), ingestFlags()...)...),
		Action: up,
	}
}

const (
	defaultDoor = "127.0.0.1:8686"

	// portsFile remembers the ports of the last start, so that clients find the
	// system again.
	portsFile = "ports.json"

	// orphanTime is how long an engine whose parent was killed may need to let go
	// of its ports.
	orphanTime = 15 * time.Second
)

func up(ctx context.Context, cmd *cli.Command) (err error) {
	if err := noArguments(cmd); err != nil {
		return err
	}
	if cmd.String("nats") != "" {
		return usageErrorf("up runs a NATS of its own: leave out --nats (and %s), or run the parts against yours with ingest and detect", twin("nats"))
	}
	door, err := doorConfig(cmd)
	if err != nil {
		return err
	}
	s := &system{cmd: cmd, dir: cmd.String("data"), log: newLog(cmd), behind: door}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.start(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // stopped before it was up
		}
		return err
	}
	return s.run(ctx)
}

// system is one life of `yaosu up`.
type system struct {
	cmd   *cli.Command
	dir   string
	log   *slog.Logger
	ports ports

	// Each is nil until it is started.
	broker *local.Broker
	engine *local.Engine // stays nil with a ClickHouse of the user's
	nc     *nats.Conn
	js     jetstream.JetStream
	conn   *schema.Conn
	door   net.Listener
	key    *schema.PersonKey

	senders   *sender.Key
	directory *sender.Directory
	callout   *sender.Callout
	system    *nats.Conn // of the system account

	behind  gate.Config // what is behind the door
	counted *counted    // of all parts
	detects detect.Metrics
	ingests ingest.Metrics

	dsn  string // of ClickHouse, for our own parts
	ends endpoints
}

// start returns when every part answers.
func (s *system) start(ctx context.Context) error {
	// What is in it concerns patients.
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("make the data directory: %w", err)
	}
	if err := s.ports.read(s.dir); err != nil {
		return err
	}
	// The broker comes first: its lock on the directory tells a second system here
	// from one that was killed.
	if err := s.startBroker(ctx); err != nil {
		return err
	}
	_, err := os.Stat(filepath.Join(s.dir, endpointsFile))
	killed := err == nil
	if err := s.forget(); err != nil {
		return err
	}
	if err := s.startEngine(ctx, killed); err != nil {
		return err
	}
	if err := s.prepare(ctx); err != nil {
		return err
	}
	if err := s.openDoor(); err != nil {
		return err
	}
	s.counted = newCounted()
	s.counted.ingest(&s.ingests)
	s.counted.detect(&s.detects)
	if s.engine != nil {
		s.counted.engine(s.engine)
	}
	s.behind.Metrics, s.behind.Listener, s.behind.Lives = s.counted.registry, s.door, s.conn
	behindDoor(&s.behind, s.js, s.directory, s.counted)
	return s.ports.write(s.dir)
}

func (s *system) startBroker(ctx context.Context) (err error) {
	port := s.cmd.Int("nats-port")
	if port == 0 && free(s.ports.NATS) {
		port = s.ports.NATS
	}
	if s.senders, err = sender.LoadOrCreateKey(filepath.Join(s.dir, sendersKeyFile)); err != nil {
		return err
	}
	s.broker, err = local.StartBroker(ctx, local.BrokerConfig{
		Dir:        s.dir,
		Port:       port,
		SyncAlways: s.cmd.String("nats-sync") == "always",
		Callout: &local.Callout{
			User:     sender.PartsUser,
			Password: s.senders.Password,
			Account:  sender.PartsAccount,
			Outside:  sender.SendersAccount,
			Services: sender.Services(),
			Issuer:   s.senders.Issuer,
			Cipher:   s.senders.Cipher,
			System:   s.senders.System,
		},
		Log: s.log.With("part", "nats"),
	})
	if err != nil {
		return err
	}
	s.ends.NATS = s.broker.URL()
	s.ports.NATS = portOf(s.ends.NATS)
	ours := withParts(s.ends.NATS, s.senders)
	s.nc, err = nats.Connect(ours, nats.Name("yaosu up"), nats.MaxReconnects(-1), nats.IgnoreAuthErrorAbort())
	if err != nil {
		return fmt.Errorf("reach NATS at %s: %w", s.ends.NATS, err)
	}
	if s.js, err = jetstream.New(s.nc); err != nil {
		return fmt.Errorf("open JetStream: %w", err)
	}
	// At once: who connects is refused while nobody answers.
	log := s.log.With("part", "senders")
	if s.directory, err = watchSenders(ctx, s.js, s.cmd.Int("stream-replicas"), sendersMode(s.cmd), log); err != nil {
		return err
	}
	if s.callout, s.system, err = answerNATS(s.ends.NATS, s.nc, s.senders, s.directory, log); err != nil {
		return err
	}
	if !s.directory.Open() {
		s.ends.NATS = ours
	}
	return nil
}

func (s *system) startEngine(ctx context.Context, killed bool) (err error) {
	if dsn := s.cmd.String("clickhouse"); dsn != "" {
		s.dsn, s.ends.ClickHouse = dsn, dsn
		if strings.HasPrefix(dsn, "http") {
			s.ends.ClickHouseHTTP = dsn
		}
		return nil
	}
	if killed {
		s.awaitPorts(ctx)
	}
	choose := func(flag string, before int) int {
		if port := s.cmd.Int(flag); port != 0 {
			return port
		}
		if free(before) {
			return before
		}
		return 0
	}
	s.engine, err = local.StartEngine(ctx, local.EngineConfig{
		Dir:        s.dir,
		NativePort: choose("clickhouse-port", s.ports.ClickHouse),
		HTTPPort:   choose("clickhouse-http-port", s.ports.ClickHouseHTTP),
		Log:        s.log.With("part", "clickhouse"),
	})
	if err != nil {
		return err
	}
	// Over HTTP inserts are as fast, and the embedded engine never minds a client
	// that goes; over the native protocol it sometimes aborts.
	s.dsn = s.engine.HTTPDSN()
	s.ends.ClickHouse = s.engine.NativeDSN()
	s.ends.ClickHouseHTTP = "http://" + s.engine.HTTPAddr()
	s.ports.ClickHouse = portOf(s.ends.ClickHouse)
	s.ports.ClickHouseHTTP = portOf(s.ends.ClickHouseHTTP)
	return nil
}

// awaitPorts gives the engine of a killed system time to end.
func (s *system) awaitPorts(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, orphanTime)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !free(s.ports.ClickHouse) || !free(s.ports.ClickHouseHTTP) {
		select {
		case <-ctx.Done():
			return // somebody else's: take other ports
		case <-tick.C:
		}
	}
}

// prepare makes what the parts need: tables, streams and the person key.
func (s *system) prepare(ctx context.Context) (err error) {
	applied, err := schema.Apply(ctx, s.dsn)
	if err != nil {
		return err
	}
	if len(applied) > 0 {
		s.log.Info("schema applied", "migrations", len(applied))
	}
	if s.conn, err = schema.Open(s.dsn); err != nil {
		return err
	}
	if err := schema.EnsureStreams(ctx, s.js, s.cmd.Int("stream-replicas")); err != nil {
		return err
	}
	path := personKeyPath(s.cmd)
	s.key, err = schema.LoadPersonKey(path)
	if errors.Is(err, fs.ErrNotExist) {
		if n, countErr := vaultSize(ctx, s.conn); countErr != nil {
			return countErr
		} else if n > 0 {
			return fmt.Errorf("the database knows persons by a key that is not at %s: put it back, or name it with --person-key", path)
		}
		s.key, err = schema.LoadOrCreatePersonKey(path)
	}
	if err != nil {
		return err
	}
	return checkPersonKey(ctx, s.conn, s.key)
}

func (s *system) openDoor() (err error) {
	if address := s.cmd.String("http"); address != "" {
		s.door, err = net.Listen("tcp", address)
		if err != nil {
			return fmt.Errorf("open the HTTP door: %w", err)
		}
	} else {
		addresses := []string{defaultDoor, "127.0.0.1:0"}
		if s.ports.HTTP != 0 {
			addresses = append([]string{loopback(s.ports.HTTP)}, addresses...)
		}
		for _, address := range addresses {
			if s.door, err = net.Listen("tcp", address); err == nil {
				break
			}
		}
		if err != nil {
			return fmt.Errorf("open the HTTP door: %w", err)
		}
	}
	scheme := "http://"
	if s.behind.TLS != nil {
		scheme = "https://"
	}
	s.ends.HTTP = scheme + s.door.Addr().String()
	s.ports.HTTP = portOf(s.ends.HTTP)
	return nil
}

// run runs the parts until ctx ends or one fails. They end in the order of the
// way of a scan: the door, then the ingester with what it holds.
func (s *system) run(ctx context.Context) error {
	strict := func() bool { return !s.directory.Open() }
	index := filepath.Join(s.dir, "check")
	checker, err := newChecker(index, s.conn, s.js, s.key, strict, s.log)
	if err != nil {
		return err
	}
	s.behind.Check = checker
	s.counted.check(checker.Metrics)
	makes, err := makeFilter(s.cmd, &s.behind, checker, index, s.counted)
	if err != nil {
		return err
	}
	group, doors := errgroup.WithContext(ctx)
	behind, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	group.Go(func() error {
		defer stop()
		return gate.Run(doors, s.behind)
	})
	group.Go(func() error { return s.callout.Run(behind) })
	group.Go(func() error {
		cfg := ingestConfig(s.cmd)
		cfg.JS, cfg.Conn, cfg.Key, cfg.Metrics = s.js, s.conn, s.key, &s.ingests
		cfg.Strict = strict
		limitMemory(systemMemory)
		return ingest.Run(behind, cfg)
	})
	group.Go(func() error { return s.runDetect(behind) })
	group.Go(func() error { return checker.Run(behind) })
	group.Go(func() error { return makes(doors) })
	group.Go(func() error { return checker.Serve(doors, s.nc) })
	group.Go(func() error {
		<-doors.Done()
		s.log.Info("ending")
		return s.forget()
	})
	if err := s.announce(); err != nil {
		group.Go(func() error { return err })
	} else if s.directory.Open() && sendersMode(s.cmd) == sender.Auto {
		group.Go(func() error { return s.shut(doors) })
	}
	err = group.Wait()
	// Again, for a part that failed faster than announce wrote.
	return errors.Join(err, s.forget())
}

// shut waits for the first credential, and then tells our own tools theirs: nobody
// is let in without one any more.
func (s *system) shut(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-s.directory.Shut():
	}
	s.log.Info("there is a credential: nobody is let in without one from now on")
	ends := s.ends
	ends.NATS = withParts(ends.NATS, s.senders)
	return writeEndpoints(s.dir, ends)
}

// runDetect runs the detectors until ctx ends.
func (s *system) runDetect(ctx context.Context) error {
	return detect.Run(ctx, detect.Config{
		Conn:      s.conn,
		JetStream: s.js,
		Every:     s.cmd.Duration("detect-every"),
		Metrics:   &s.detects,
		Log:       s.log.With("part", "detect"),
	})
}

// announce tells everybody where the system is.
func (s *system) announce() error {
	if err := writeEndpoints(s.dir, s.ends); err != nil {
		return err
	}
	lines := [][2]string{
		{"NATS", redacted(s.ends.NATS)},
		{"ClickHouse", redacted(s.ends.ClickHouse)},
	}
	if s.engine != nil {
		lines = append(lines, [2]string{"ClickHouse HTTP", s.ends.ClickHouseHTTP})
	}
	lines = append(lines, [2]string{"HTTP", s.ends.HTTP})
	text := fmt.Sprintf("药溯 yaosu runs in %s\n\n", s.dir)
	for _, line := range lines {
		text += fmt.Sprintf("  %-16s %s\n", line[0], line[1])
	}
	_, err := fmt.Fprintf(s.cmd.Root().Writer, "%s\nCtrl-C ends it.\n", text)
	return err
}

// forget removes what announce wrote.
func (s *system) forget() error {
	if err := os.Remove(filepath.Join(s.dir, endpointsFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", endpointsFile, err)
	}
	return nil
}

// close ends what start started, clients first and the engine last.
func (s *system) close() error {
	var errs []error
	if s.door != nil {
		_ = s.door.Close() // closed already when the gate ran
	}
	if s.system != nil {
		s.system.Close()
	}
	if s.nc != nil {
		s.nc.Close()
	}
	if s.conn != nil {
		errs = append(errs, s.conn.Close())
	}
	if s.broker != nil {
		errs = append(errs, s.broker.Close())
	}
	if s.engine != nil {
		if err := s.engine.Close(); err != nil {
			// All parts have ended and all was stored: the next start mends the rest.
			s.log.Warn("the engine did not end cleanly", "error", err)
		}
	}
	return errors.Join(errs...)
}

// ports are those of the last start; 0 is none.
type ports struct {
	NATS           int `json:"nats"`
	ClickHouse     int `json:"clickhouse"`
	ClickHouseHTTP int `json:"clickhouse_http"`
	HTTP           int `json:"http"`
}

func (p *ports) read(dir string) error {
	b, err := os.ReadFile(filepath.Join(dir, portsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the ports of the last start: %w", err)
	}
	if json.Unmarshal(b, p) != nil {
		// A power cut may leave it empty. They are a wish only: free ones serve.
		*p = ports{}
	}
	return nil
}

func (p *ports) write(dir string) error {
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, portsFile)
	if err := os.WriteFile(path+".new", append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("note the ports: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("note the ports: %w", err)
	}
	return nil
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// free tells whether port is one, and nobody listens on it.
func free(port int) bool {
	if port == 0 {
		return false
	}
	l, err := net.Listen("tcp", loopback(port))
	if err != nil {
		return false
	}
	return l.Close() == nil
}

// portOf is the port of an address, 0 when it names none.
func portOf(address string) int {
	u, err := url.Parse(address)
	if err != nil {
		return 0
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		return 0
	}
	return port
}
