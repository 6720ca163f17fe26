package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"golang.org/x/crypto/bcrypt"
)

// BrokerConfig says how to run the NATS server inside this process.
type BrokerConfig struct {
	// Dir gets the JetStream files, in nats/. Made when missing. The streams may
	// fill three quarters of what was free on that disk at the start (the server's
	// own default); publishers are refused beyond that, nothing is dropped.
	Dir string

	// Port is on 127.0.0.1; 0 or -1 takes a free one.
	Port int

	// SyncAlways has the disk confirm every message, or every atomic batch, before it
	// is acknowledged, so that a power cut loses nothing. Messages of one event get
	// many times slower, batches and messages of many events up to three times:
	// docs/durability.md has the figures. Without it the files are synced every two
	// minutes: a killed process loses nothing, a machine without power may lose what
	// was acknowledged since. Default false.
	SyncAlways bool

	// MaxPayload is the largest message, in bytes. Default 8 MiB.
	MaxPayload int32

	// Callout, when given, has everybody but our own parts say who he is. Default: the
	// server asks nobody.
	Callout *Callout

	// Log gets the server's errors and warnings, and its notices at level debug.
	// Default: nowhere.
	Log *slog.Logger
}

// Callout says whom the server asks who a new connection is: whoever answers its
// auth callout as User. Who comes from outside gets into an account of its own, of
// which only Services lead to where the streams are, and answers come back the way
// of the question. In one account a client could have the answer to a question, or
// the acknowledgement of a message, sent to where it may not publish itself.
type Callout struct {
	User, Password string   // of our own parts, which are not asked about
	Account        string   // of our own parts and the streams
	Outside        string   // account of all others
	Services       []string // subjects of Account that Outside may publish to
	Issuer         string   // public key, of an account, that the answers are signed with
	Cipher         string   // public curve key that the questions are encrypted for
	System         string   // public key of the user of the system account
}

// Broker is a running NATS server with JetStream.
type Broker struct {
	server    *server.Server
	lock      *os.File // the directory is this Broker's
	closeOnce sync.Once
	closeErr  error
}

// configure says in the words of the server's configuration, of which JSON is a
// part, what deploy/nats says there.
func (c *Callout) configure(options *server.Options) error {
	// The server warns of what is not hashed. It is random, so the cheapest will do.
	hash, err := bcrypt.GenerateFromPassword([]byte(c.Password), bcrypt.MinCost)
	if err != nil {
		return fmt.Errorf("hash the password of the parts: %w", err)
	}
	type block map[string]any
	var exports, imports []block
	for _, subject := range c.Services {
		exports = append(exports, block{"service": subject})
		imports = append(imports, block{"service": block{"account": c.Account, "subject": subject}})
	}
	var text strings.Builder
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false) // the server does not read > in JSON's other way
	err = encoder.Encode(block{
		"accounts": block{
			c.Account: block{
				"jetstream": "enabled",
				"users":     []block{{"user": c.User, "password": string(hash)}},
				"exports":   exports,
			},
			c.Outside: block{"imports": imports},
			"SYS":     block{"users": []block{{"nkey": c.System}}},
		},
		"system_account": "SYS",
		"authorization": block{"auth_callout": block{
			"issuer":     c.Issuer,
			"xkey":       c.Cipher,
			"account":    c.Account,
			"auth_users": []string{c.User, c.System},
		}},
	})
	if err != nil {
		return err
	}
	return options.ProcessConfigString(text.String())
}

// move takes along the streams of a directory from before there were accounts. If
// we die before or after it, the next start goes on.
func (c *Callout) move(dir string) error {
	streams := filepath.Join(dir, "jetstream")
	if _, err := os.Stat(filepath.Join(streams, c.Account)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err := os.Rename(filepath.Join(streams, "$G"), filepath.Join(streams, c.Account))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

const defaultMaxPayload = 8 << 20

// StartBroker starts the server and returns once it takes connections and has
// its streams back. ctx bounds the start only; the Broker runs until Close.
func StartBroker(ctx context.Context, cfg BrokerConfig) (*Broker, error) {
	if cfg.Dir == "" {
		return nil, errors.New("start the broker: no directory given")
	}
	if cfg.Port == 0 {
		cfg.Port = server.RANDOM_PORT
	}
	if cfg.MaxPayload <= 0 {
		cfg.MaxPayload = defaultMaxPayload
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	dir := filepath.Join(cfg.Dir, "nats")
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("start the broker: %w", err)
	}
	lock, err := lockFile(filepath.Join(cfg.Dir, "nats.lock"))
	if errors.Is(err, errLocked) {
		return nil, fmt.Errorf("start the broker: another yaosu is using %s", cfg.Dir)
	}
	if err != nil {
		return nil, fmt.Errorf("start the broker: %w", err)
	}
	s, err := startServer(ctx, dir, cfg)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start the broker: %w", err), lock.Close())
	}
	return &Broker{server: s, lock: lock}, nil
}

func startServer(ctx context.Context, dir string, cfg BrokerConfig) (*server.Server, error) {
	options := &server.Options{
		ServerName: "yaosu",
		Host:       "127.0.0.1",
		Port:       cfg.Port,
		NoSigs:     true, // signals are the program's, it closes the broker last
		JetStream:  true,
		StoreDir:   dir,
		SyncAlways: cfg.SyncAlways,
		MaxPayload: cfg.MaxPayload,
		// Default 64 MB, of which one large message may not take the most part.
		MaxPending: max(server.MAX_PENDING_SIZE, 4*int64(cfg.MaxPayload)),
	}
	if cfg.Callout != nil {
		if err := cfg.Callout.configure(options); err != nil {
			return nil, err
		}
		if err := cfg.Callout.move(dir); err != nil {
			return nil, fmt.Errorf("move the streams into their account: %w", err)
		}
	}
	s, err := server.NewServer(options)
	if err != nil {
		return nil, err
	}
	log := &serverLog{log: cfg.Log}
	s.SetLoggerV2(log, false, false, false)
	s.Start()
	for !s.ReadyForConnections(50 * time.Millisecond) {
		err := log.fatal()
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			s.Shutdown()
			s.WaitForShutdown()
			return nil, err
		}
	}
	return s, nil
}

// URL is where clients connect.
func (b *Broker) URL() string { return b.server.ClientURL() }

// Close disconnects all clients, writes out what is in memory and returns when
// the server has ended. It is safe to call twice.
func (b *Broker) Close() error {
	b.closeOnce.Do(func() {
		b.server.Shutdown()
		b.server.WaitForShutdown()
		b.closeErr = b.lock.Close()
	})
	return b.closeErr
}

// serverLog is the server's logger. It keeps the first fatal message: the server
// logs why it cannot start, and returns nothing.
type serverLog struct {
	log *slog.Logger

	mu    sync.Mutex
	first error
}

func (l *serverLog) fatal() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.first
}

func (l *serverLog) Fatalf(format string, v ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first == nil {
		l.first = fmt.Errorf(format, v...)
	}
}

func (l *serverLog) Errorf(format string, v ...any)  { l.print(slog.LevelError, format, v) }
func (l *serverLog) Warnf(format string, v ...any)   { l.print(slog.LevelWarn, format, v) }
func (l *serverLog) Noticef(format string, v ...any) { l.print(slog.LevelDebug, format, v) }
func (l *serverLog) Debugf(format string, v ...any)  { l.print(slog.LevelDebug, format, v) }
func (l *serverLog) Tracef(format string, v ...any)  { l.print(slog.LevelDebug, format, v) }

func (l *serverLog) print(level slog.Level, format string, v []any) {
	if l.log.Enabled(context.Background(), level) {
		l.log.Log(context.Background(), level, "nats: "+strings.TrimSpace(fmt.Sprintf(format, v...)))
	}
}
