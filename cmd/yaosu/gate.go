package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/urfave/cli/v3"
	"golang.org/x/sync/errgroup"

	"yaosu/gate"
	"yaosu/gate/sender"
	"yaosu/schema"
)

func gateCommand() *cli.Command {
	return &cli.Command{
		Name:  "gate",
		Usage: "takes scans over HTTP and answers tills, until it is stopped",
		Description: "`yaosu up` has this door already; the verb is for servers of their own. Tills and hospital\n" +
			"systems post events, which are answered when NATS has acknowledged them:\n\n" +
			"  curl -H 'Authorization: Bearer TOKEN' -H 'Content-Type: application/json' \\\n" +
			"       --data-binary @events.json http://127.0.0.1:8686/v1/scans\n\n" +
			"GET /openapi.yaml tells all routes, GET /asyncapi.yaml the subjects of NATS. ClickHouse is\n" +
			"asked for the life of a code (GET /v1/codes); taking scans does not need it.\n\n" +
			"Who may speak stands in NATS, see `yaosu org`. On 127.0.0.1 the door is open to everybody\n" +
			"until there is a first credential; on other addresses it is open to nobody without one; see\n" +
			"--senders. Other machines should reach it by TLS only: give --tls-cert and --tls-key, or put\n" +
			"a proxy in front.\n\n" +
			"Any number of gates may run. Ctrl-C or SIGTERM answers what was begun and ends it.\n\n" +
			"Examples:\n" +
			"  yaosu gate --nats nats://n1:4222 --clickhouse http://c1:8123/yaosu\n" +
			"  yaosu gate --listen :8443 --tls-cert gate.crt --tls-key gate.key --tls-client-ca vendors.crt",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "listen", Usage: "`ADDRESS` of the door, host:port", Value: defaultDoor},
			&cli.StringFlag{Name: "senders-key", Usage: "`FILE` with the secret of `yaosu org key`: the gate tells NATS, too, who may do what there"},
			&cli.StringFlag{Name: "check-index", Usage: "directory `DIR` for the index of what was sold, of this gate alone; checks are answered from it. It is made anew when missing, about 30 bytes for each sale. Needs --person-key (default: no checks)"},
			&cli.IntFlag{Name: "stream-replicas", Usage: "copies `N` of each stream that is made, 3 in a cluster", Value: 1, Validator: atLeastOne},
		}, doorFlags()...),
		Action: runGate,
	}
}

// doorFlags are those of the door, wherever it runs.
func doorFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "tls-cert", Usage: "`FILE` with the certificate, and those between it and the root, in PEM: the door speaks HTTPS"},
		&cli.StringFlag{Name: "tls-key", Usage: "`FILE` with its key"},
		&cli.StringFlag{Name: "tls-client-ca", Usage: "`FILE` with the authorities whose client certificates are looked up among the credentials"},
		sendersFlag("who may publish and ask without a credential (`WHO`): auto is everybody on this machine until the first `yaosu org add`, strict is nobody, open is everybody who reaches the door, from other machines too"),
		&cli.FloatFlag{Name: "door-rate", Usage: "most requests a second `N` of one credential, with bursts of twice that; 0: no limit", Value: 200},
		filterEvery(),
		&cli.IntFlag{Name: "door-clients", Usage: "most clients `N` that are connected at a time; more wait", Value: 20_000, Validator: atLeastOne},
	}
}

func runGate(ctx context.Context, cmd *cli.Command) error {
	if err := noArguments(cmd); err != nil {
		return err
	}
	cfg, err := doorConfig(cmd)
	if err != nil {
		return err
	}
	at, err := clickHouseAddress(cmd)
	if err != nil {
		return err
	}
	// Lazily: a door without ClickHouse takes scans all the same.
	if cfg.Lives, err = schema.Open(at.url); err != nil {
		return usageError{err.Error()}
	}
	defer cfg.Lives.Close()
	js, err := openJetStream(ctx, cmd)
	if err != nil {
		return err
	}
	defer js.Conn().Close()
	if err := schema.EnsureStreams(ctx, js, cmd.Int("stream-replicas")); err != nil {
		return err
	}
	if cfg.Listener, err = net.Listen("tcp", cmd.String("listen")); err != nil {
		return fmt.Errorf("open the HTTP door: %w", err)
	}
	defer cfg.Listener.Close()
	counted := newCounted()
	cfg.Metrics = counted.registry
	directory, err := watchSenders(ctx, js, cmd.Int("stream-replicas"), sendersMode(cmd), cfg.Log)
	if err != nil {
		return err
	}
	behindDoor(&cfg, js, directory, counted)
	group, running := errgroup.WithContext(ctx)
	if dir := cmd.String("check-index"); dir != "" {
		key, err := schema.LoadPersonKey(personKeyPath(cmd))
		if err != nil {
			return fmt.Errorf("%w: checks need the key the ingester uses, give it with --person-key", err)
		}
		checker, err := newChecker(dir, cfg.Lives, js, key, func() bool { return !directory.Open() }, newLog(cmd))
		if err != nil {
			return err
		}
		cfg.Check = checker
		counted.check(checker.Metrics)
		makes, err := makeFilter(cmd, &cfg, checker, dir, counted)
		if err != nil {
			return err
		}
		group.Go(func() error { return makes(running) })
		group.Go(func() error { return checker.Run(running) })
		group.Go(func() error { return checker.Serve(running, js.Conn()) })
	}
	limitMemory(gateMemory)
	if path := cmd.String("senders-key"); path != "" {
		key, err := sender.LoadKey(path)
		if err != nil {
			return err
		}
		nats, err := natsAddress(cmd)
		if err != nil {
			return err
		}
		callout, system, err := answerNATS(nats.url, js.Conn(), key, directory, cfg.Log)
		if err != nil {
			return err
		}
		defer system.Close()
		group.Go(func() error { return callout.Run(running) })
	}
	cfg.Log.Info("the door is open", "address", cfg.Listener.Addr().String(), "tls", cfg.TLS != nil)
	group.Go(func() error { return gate.Run(running, cfg) })
	return group.Wait()
}

// gateMemory is what the garbage collector keeps a gate below, see limitMemory.
const gateMemory = 400 << 20

// doorConfig is what doorFlags say.
func doorConfig(cmd *cli.Command) (cfg gate.Config, err error) {
	cfg = gate.Config{
		Open:       sendersMode(cmd) == sender.Anyone,
		Rate:       cmd.Float("door-rate"),
		MaxClients: cmd.Int("door-clients"),
		Log:        newLog(cmd).With("part", "gate"),
	}
	if cfg.Rate < 0 {
		return cfg, usageErrorf("--door-rate %v: want 0 or more", cfg.Rate)
	}
	cert, key, ca := cmd.String("tls-cert"), cmd.String("tls-key"), cmd.String("tls-client-ca")
	switch {
	case cert == "" && key == "" && ca == "":
		return cfg, nil
	case cert == "" || key == "":
		return cfg, usageErrorf("give --tls-cert and --tls-key together")
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return cfg, fmt.Errorf("read the certificate of the door: %w", err)
	}
	cfg.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	if ca == "" {
		return cfg, nil
	}
	text, err := os.ReadFile(ca)
	if err != nil {
		return cfg, fmt.Errorf("read --tls-client-ca: %w", err)
	}
	cfg.TLS.ClientCAs = x509.NewCertPool()
	if !cfg.TLS.ClientCAs.AppendCertsFromPEM(text) {
		return cfg, fmt.Errorf("read --tls-client-ca %s: no certificate in it", ca)
	}
	// Who shows none may come with a token.
	cfg.TLS.ClientAuth = tls.VerifyClientCertIfGiven
	return cfg, nil
}

// behindDoor gives cfg, whose Listener, Open and Lives are set, all that is behind
// the door.
func behindDoor(cfg *gate.Config, js jetstream.JetStream, directory *sender.Directory, counted *counted) {
	if cfg.TLS == nil && !gate.Loopback(cfg.Listener.Addr()) {
		cfg.Log.Warn("tokens and persons travel in the clear: give --tls-cert and --tls-key, or put a proxy in front that speaks TLS")
	}
	sink := gate.NewJetStreamSink(js)
	counted.sink(sink)
	cfg.Senders, cfg.Sink, cfg.Refused = directory, sink, sink
	cfg.Ready = []gate.Probe{
		{Name: "clickhouse", Check: cfg.Lives.Ping},
		{Name: "nats", Check: func(ctx context.Context) error {
			_, err := js.AccountInfo(ctx)
			return err
		}},
	}
}
