package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/urfave/cli/v3"

	"yaosu/gate/sender"
	"yaosu/schema"
)

const connectTimeout = 10 * time.Second

// commonFlags are understood by every verb, before or after its name.
func commonFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{
			Name:  "nats",
			Usage: "`URL` of NATS, such as nats://host:4222 (default: the system that runs in --data)",
		},
		&cli.StringFlag{
			Name:  "clickhouse",
			Usage: "`DSN` of ClickHouse, clickhouse://user:pass@host:9000/yaosu or http://user:pass@host:8123/yaosu (default: the system that runs in --data)",
		},
		&cli.StringFlag{
			Name:  "data",
			Usage: "directory `DIR` of a system started by yaosu up; its endpoints.json names the addresses",
			Value: "./yaosu-data",
		},
		&cli.StringFlag{
			Name:  "person-key",
			Usage: "`FILE` with the key that turns person numbers into pseudonyms (default: person.key in --data)",
		},
		&cli.StringFlag{
			Name:      "log-level",
			Usage:     "least `LEVEL` that is logged: debug, info, warn or error",
			Value:     "info",
			Validator: func(s string) error { return new(slog.LevelVar).UnmarshalText([]byte(s)) },
		},
		&cli.StringFlag{
			Name:      "log-format",
			Usage:     "`FORMAT` of the log on standard error: text or json",
			Value:     "text",
			Validator: oneOf("text", "json"),
		},
	}
}

// oneOf is a validator: the value must be one of allowed.
func oneOf(allowed ...string) func(string) error {
	return func(s string) error {
		for _, a := range allowed {
			if s == a {
				return nil
			}
		}
		return fmt.Errorf("%q is none of %q", s, allowed)
	}
}

// newLog makes the log that --log-level and --log-format ask for.
func newLog(cmd *cli.Command) *slog.Logger {
	level := new(slog.LevelVar)
	if err := level.UnmarshalText([]byte(cmd.String("log-level"))); err != nil {
		level.Set(slog.LevelInfo) // cannot be: the flag is validated
	}
	options := &slog.HandlerOptions{Level: level}
	if cmd.String("log-format") == "json" {
		return slog.New(slog.NewJSONHandler(cmd.Root().ErrWriter, options))
	}
	return slog.New(slog.NewTextHandler(cmd.Root().ErrWriter, options))
}

// endpoints is what a running system can be reached by: the file endpoints.json.
type endpoints struct {
	NATS           string `json:"nats"`
	ClickHouse     string `json:"clickhouse"`
	ClickHouseHTTP string `json:"clickhouse_http"`
	HTTP           string `json:"http"`
}

const (
	endpointsFile = "endpoints.json"
	personKeyFile = "person.key"
)

// writeEndpoints writes DIR/endpoints.json as a whole or not at all.
func writeEndpoints(dir string, e endpoints) error {
	b, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(dir, endpointsFile)
	if err := os.WriteFile(path+".new", append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", endpointsFile, err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("write %s: %w", endpointsFile, err)
	}
	return nil
}

func readEndpoints(dir string) (endpoints, error) {
	var e endpoints
	path := filepath.Join(dir, endpointsFile)
	b, err := os.ReadFile(path)
	if err != nil {
		return e, err
	}
	if err := json.Unmarshal(b, &e); err != nil {
		return e, fmt.Errorf("%s: %w", path, err)
	}
	return e, nil
}

// address is where a server is, and how we know: for error messages.
type address struct {
	url  string
	hint string // what to look at when nothing answers there
}

// findAddress takes the flag, else what endpoints.json says.
func findAddress(cmd *cli.Command, flag string, of func(endpoints) string) (address, error) {
	if given := cmd.String(flag); given != "" {
		return address{given, "is --" + flag + " right?"}, nil
	}
	dir := cmd.String("data")
	e, err := readEndpoints(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return address{}, fmt.Errorf("no system runs in %s (no %s there): start one with `yaosu up --data %s`, name another directory with --data, or give --%s", dir, endpointsFile, dir, flag)
	case err != nil:
		return address{}, err
	case of(e) == "":
		return address{}, fmt.Errorf("%s names no %s: give --%s", filepath.Join(dir, endpointsFile), flag, flag)
	}
	return address{of(e), fmt.Sprintf("is `yaosu up --data %s` still running?", dir)}, nil
}

func natsAddress(cmd *cli.Command) (address, error) {
	return findAddress(cmd, "nats", func(e endpoints) string { return e.NATS })
}

func clickHouseAddress(cmd *cli.Command) (address, error) {
	return findAddress(cmd, "clickhouse", func(e endpoints) string { return e.ClickHouse })
}

// openJetStream connects to NATS; the caller closes with Conn().Close.
func openJetStream(ctx context.Context, cmd *cli.Command) (jetstream.JetStream, error) {
	at, err := natsAddress(cmd)
	if err != nil {
		return nil, err
	}
	log := newLog(cmd)
	options := []nats.Option{
		nats.Name("yaosu " + cmd.Name),
		nats.Timeout(connectTimeout),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(), // who answers NATS may be away for a while
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn("lost NATS, trying again", "error", err)
			}
		}),
		nats.ReconnectHandler(func(c *nats.Conn) { log.Info("NATS is back", "url", c.ConnectedUrlRedacted()) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { log.Warn("NATS", "error", err) }),
	}
	if name, ok := senderOf(at.url); ok {
		options = append(options, nats.CustomInboxPrefix(sender.InboxPrefix(name)))
	}
	conn, err := nats.Connect(at.url, options...)
	if err != nil {
		return nil, fmt.Errorf("reach NATS at %s: %w; %s", redacted(at.url), err, at.hint)
	}
	js, err := jetstream.New(conn)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("open JetStream: %w", err)
	}
	return js, nil
}

// openClickHouse connects to ClickHouse and makes sure that it answers.
func openClickHouse(ctx context.Context, cmd *cli.Command) (*schema.Conn, error) {
	at, err := clickHouseAddress(cmd)
	if err != nil {
		return nil, err
	}
	conn, err := schema.Open(at.url)
	if err != nil {
		return nil, usageError{err.Error()}
	}
	ctx, cancel := context.WithTimeout(ctx, 2*connectTimeout)
	defer cancel()
	if err := conn.Ping(ctx); err != nil {
		_ = conn.Close() // the ping's error says more
		return nil, fmt.Errorf("reach ClickHouse at %s: %w; %s", redacted(at.url), err, at.hint)
	}
	return conn, nil
}

// personKeyPath is --person-key, else the one yaosu up made in --data.
func personKeyPath(cmd *cli.Command) string {
	if path := cmd.String("person-key"); path != "" {
		return path
	}
	return filepath.Join(cmd.String("data"), personKeyFile)
}

// redacted is an address without its password.
func redacted(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "the given address"
	}
	return u.Redacted()
}
