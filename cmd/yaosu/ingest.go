package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime/debug"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/urfave/cli/v3"

	"yaosu/gate/sender"
	"yaosu/ingest"
	"yaosu/schema"
)

func ingestCommand() *cli.Command {
	return &cli.Command{
		Name:  "ingest",
		Usage: "moves scans from NATS into ClickHouse, until it is stopped",
		Description: "`yaosu up` does this already; the verb is for servers of their own. The schema must be\n" +
			"applied; streams that are missing are made. Every ingester of one database needs the same\n" +
			"person key, 64 hex digits in a file (`openssl rand -hex 32` makes one). Ctrl-C or SIGTERM\n" +
			"stores what is held and ends it.\n\n" +
			"Any number of ingesters may run; they share the work through a ledger in NATS, the KV bucket\n" +
			"INGEST. When one dies, another goes on with what it had. --status shows how far they are.\n\n" +
			"Example:\n" +
			"  yaosu ingest --nats nats://n1:4222 --clickhouse clickhouse://ingest@c1:9000/yaosu --person-key /etc/yaosu/person.key",
		Flags: append(ingestFlags(),
			sendersFlag("when an event must be of the institution and region in its subject (`WHEN`), else it is refused: auto once there is a credential (`yaosu org add`), open never, strict always"),
			&cli.BoolFlag{Name: "status", Usage: "only print how far the scans are stored, and who works on what"}),
		Action: runIngest,
	}
}

func ingestFlags() []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{Name: "batch-rows", Usage: "most `N` rows an insert", Value: 100_000, Validator: atLeastOne},
		&cli.IntFlag{Name: "workers", Usage: "parts `N` of a backlog that are stored at a time, each taking up to 150 MB", Value: 2, Validator: atLeastOne},
		&cli.DurationFlag{Name: "batch-age", Usage: "longest `TIME` a scan waits for company before it is inserted", Value: 500 * time.Millisecond},
		&cli.Int64Flag{Name: "keep-bytes", Usage: "how many `BYTES` of scans that are in the table stay in the stream for replay", Value: 4 << 30},
		&cli.IntFlag{Name: "stream-replicas", Usage: "copies `N` of each stream that is made, 3 in a cluster", Value: 1, Validator: atLeastOne},
	}
}

func atLeastOne(n int) error {
	if n < 1 {
		return fmt.Errorf("%d is less than 1", n)
	}
	return nil
}

func runIngest(ctx context.Context, cmd *cli.Command) error {
	if err := noArguments(cmd); err != nil {
		return err
	}
	if cmd.Bool("status") {
		return printStatus(ctx, cmd)
	}
	path := personKeyPath(cmd)
	key, err := schema.LoadPersonKey(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("no person key at %s: name the database's with --person-key, or make its first with `openssl rand -hex 32 > %s`", path, path)
	}
	if err != nil {
		return err
	}
	js, err := openJetStream(ctx, cmd)
	if err != nil {
		return err
	}
	defer js.Conn().Close()
	conn, err := openClickHouse(ctx, cmd)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := schema.EnsureStreams(ctx, js, cmd.Int("stream-replicas")); err != nil {
		return err
	}
	if err := checkPersonKey(ctx, conn, key); err != nil {
		return err
	}
	cfg := ingestConfig(cmd)
	cfg.JS, cfg.Conn, cfg.Key = js, conn, key
	switch mode := sendersMode(cmd); mode {
	case sender.Strict:
		cfg.Strict = func() bool { return true }
	case sender.Auto:
		directory, err := watchSenders(ctx, js, cmd.Int("stream-replicas"), mode, cfg.Log)
		if err != nil {
			return err
		}
		cfg.Strict = func() bool { return !directory.Open() }
	}
	limitMemory(ingesterMemory)
	return ingest.Run(ctx, cfg)
}

// What the garbage collector keeps a process below, as far as what is in use
// allows: garbage would else add up to as much as the batches.
const (
	ingesterMemory = 400 << 20
	systemMemory   = 640 << 20 // with NATS in it
)

// limitMemory sets that limit. GOMEMLIMIT in the environment says another one.
func limitMemory(bytes int64) {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(bytes)
	}
}

func printStatus(ctx context.Context, cmd *cli.Command) error {
	js, err := openJetStream(ctx, cmd)
	if err != nil {
		return err
	}
	defer js.Conn().Close()
	s, err := ingest.Look(ctx, js, "")
	if err != nil {
		return err
	}
	out := cmd.Root().Writer
	fmt.Fprintf(out, "messages up to %d, stored up to %d, waiting %d\n", s.Last, s.StoredTo, s.Waiting)
	for _, open := range s.Open {
		fmt.Fprintf(out, "  %d to %d: stored before %d, owner %s\n", open.From, open.To, open.At, open.Owner)
	}
	return nil
}

// ingestConfig is what ingestFlags say.
func ingestConfig(cmd *cli.Command) ingest.Config {
	return ingest.Config{
		Log:       newLog(cmd).With("part", "ingest"),
		Workers:   cmd.Int("workers"),
		MaxRows:   cmd.Int("batch-rows"),
		MaxAge:    cmd.Duration("batch-age"),
		KeepBytes: uint64(max(0, cmd.Int64("keep-bytes"))),
	}
}

// vaultSize is how many persons the database knows.
func vaultSize(ctx context.Context, conn driver.Conn) (n uint64, err error) {
	if err := conn.QueryRow(ctx, "SELECT count() FROM person_vault").Scan(&n); err != nil {
		return 0, fmt.Errorf("look into the vault: %w", err)
	}
	return n, nil
}

const accessDenied = 497 // the engine's code

// checkPersonKey makes sure that key is the one the database was filled with: with
// another, every person would become two.
func checkPersonKey(ctx context.Context, conn driver.Conn, key *schema.PersonKey) error {
	var person, number string
	err := conn.QueryRow(ctx, "SELECT person, number FROM person_vault LIMIT 1").Scan(&person, &number)
	var refusal *clickhouse.Exception
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil // nobody yet
	case errors.As(err, &refusal) && refusal.Code == accessDenied:
		return nil // an ingester may be allowed to write the vault and not to read it
	case err != nil:
		return fmt.Errorf("look into the vault: %w", err)
	case key.Pseudonym(number) != person:
		return errors.New("the person key is not the one this database was filled with: name that one with --person-key")
	}
	return nil
}
