package deploy_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"yaosu/internal/enginetest"
	"yaosu/schema"
)

const natsConf = "nats/nats-server.conf"

// startNATS runs a server by a configuration file, on ports and in a directory
// of this test.
func startNATS(t *testing.T, file string) *server.Server {
	t.Helper()
	opts, err := server.ProcessConfigFile(file)
	if err != nil {
		t.Fatal(err)
	}
	opts.Port, opts.HTTPPort, opts.Cluster.Port = server.RANDOM_PORT, server.RANDOM_PORT, 0
	opts.StoreDir = t.TempDir()
	opts.NoSigs, opts.NoLog = true, true
	// The machine of the test may have less free than the limit says.
	opts.JetStreamMaxStore = min(opts.JetStreamMaxStore, 1<<30)
	s, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(20 * time.Second) {
		t.Fatal("the server does not take connections")
	}
	return s
}

// withExamples writes the configuration with its examples in use.
func withExamples(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for line := range strings.Lines(read(t, natsConf)) {
		before, after, found := strings.Cut(line, "#-")
		if found {
			line = before + after
		}
		b.WriteString(line)
	}
	file := filepath.Join(t.TempDir(), "nats-server.conf")
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestNATSDoesNotStartWithoutAPassword(t *testing.T) {
	if _, err := server.ProcessConfigFile(natsConf); err == nil {
		t.Error("got a configuration, want a refusal: NATS_PASSWORD is not set")
	}
}

func TestNATSHoldsWhatItsConfigurationSays(t *testing.T) {
	t.Setenv("NATS_PASSWORD", "psecret")
	opts, err := server.ProcessConfigFile(natsConf)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what      string
		got, want any
	}{
		{"listen", opts.Host, "127.0.0.1"},
		{"port", opts.Port, 4222},
		{"monitoring", opts.HTTPHost, "127.0.0.1"},
		{"monitoring port", opts.HTTPPort, 8222},
		{"JetStream", opts.JetStream, true},
		{"store_dir", opts.StoreDir, "/var/lib/nats"},
		{"max_file_store", opts.JetStreamMaxStore, int64(64 << 30)},
		{"sync_interval always", opts.SyncAlways, true},
		{"max_payload", opts.MaxPayload, int32(8 << 20)},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %v, want %v", c.what, c.got, c.want)
		}
	}

	s := startNATS(t, natsConf)
	if nc, err := nats.Connect(s.ClientURL()); err == nil {
		nc.Close()
		t.Error("a stranger was let in")
	}
	js := enginetest.JetStream(t, s.ClientURL(), nats.UserInfo("yaosu", "psecret"))
	if got := js.Conn().MaxPayload(); got != 8<<20 {
		t.Errorf("largest message: got %d, want %d", got, 8<<20)
	}
	// Twice: as every start of an ingester does.
	for range 2 {
		enginetest.Streams(t, js)
	}
	ack, err := js.Publish(t.Context(), schema.ScanSubject("530902", "P53090200417"), make([]byte, 7<<20))
	if err != nil || ack.Stream != schema.StreamScans {
		t.Errorf("publish a message of 7 MB: got %v, %v, want it in %s", ack, err, schema.StreamScans)
	}
}

// sendersKey makes the secret of those who may speak, and gives the server's
// configuration what `yaosu org key` says.
func sendersKey(t *testing.T) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "senders.key")
	out, errs, err := run(t, nil, "org", "key", "--senders-key", file)
	if err != nil {
		t.Fatalf("org key: %v: %s", err, errs)
	}
	for line := range strings.Lines(out) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		t.Setenv(name, value)
	}
	return file
}

// nats-senders.conf with the commands that docs/credentials.md names.
func TestAnInstitutionPublishesUnderItsOwnNameAlone(t *testing.T) {
	t.Setenv("NATS_PASSWORD", "psecret")
	key := sendersKey(t)
	s := startNATS(t, "nats/nats-senders.conf")
	js := enginetest.JetStream(t, s.ClientURL(), nats.UserInfo("yaosu", "psecret"))
	enginetest.Streams(t, js)

	parts := []string{"YAOSU_NATS=nats://yaosu:psecret@" + s.Addr().String()}
	out, errs, err := run(t, parts, "org", "add", "renmin", "--org", "P53090200417:530902")
	token := regexp.MustCompile(`yaosu_[A-Z2-7]+`).FindString(out)
	if err != nil || token == "" {
		t.Fatalf("org add: got %q, %v: %s", out, err, errs)
	}
	door := yaosu(t, parts, "gate", "--listen", "127.0.0.1:0", "--clickhouse", "http://127.0.0.1:1/yaosu", "--senders-key", key)
	var log bytes.Buffer
	door.Stderr = &log
	if err := door.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1) // the test may fail before it looks
	go func() { ended <- door.Wait() }()

	refused := make(chan error, 16) // never blocks the client's reader
	connect := func() (*nats.Conn, error) {
		return nats.Connect(s.ClientURL(), nats.UserInfo("renmin", token), nats.CustomInboxPrefix("_INBOX_renmin"),
			nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err }))
	}
	var shop *nats.Conn
	enginetest.Eventually(t, "the gate lets the institution in", func() bool {
		shop, err = connect()
		return err == nil
	})
	defer shop.Close()
	if _, err := shop.Request("scan.v1.530902.P53090200417", []byte("{}"), 10*time.Second); err != nil {
		t.Errorf("its own subject: %v", err)
	}
	for what, try := range map[string]func() error{
		"publish for another": func() error { return shop.Publish("scan.v1.530902.P53090200418", []byte("{}")) },
		"read the scans":      func() error { _, err := shop.SubscribeSync("scan.v1.>"); return err },
		"read all replies":    func() error { _, err := shop.SubscribeSync("_INBOX.>"); return err },
		"delete the stream":   func() error { return shop.Publish("$JS.API.STREAM.DELETE.SCANS", nil) },
	} {
		if err := try(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		select {
		case err := <-refused:
			if !errors.Is(err, nats.ErrPermissionViolation) {
				t.Errorf("%s: got %v, want %v", what, err, nats.ErrPermissionViolation)
			}
		case <-time.After(10 * time.Second):
			t.Errorf("%s: nobody refused", what)
		}
	}
	if out, errs, err := run(t, parts, "org", "revoke", "renmin"); err != nil {
		t.Fatalf("org revoke: %v: %s%s", err, out, errs)
	}
	enginetest.Eventually(t, "who was revoked is out for good", shop.IsClosed)
	if _, err := connect(); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("connect again: got %v, want %v", err, nats.ErrAuthorization)
	}
	if err := door.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("gate after SIGTERM: got %v, want exit status 0\n%s", err, log.String())
	}
}

func TestTheClusterOfTheExampleIsOne(t *testing.T) {
	t.Setenv("NATS_PASSWORD", "psecret")
	t.Setenv("NATS_ROUTE_PASSWORD", "proute")
	t.Setenv("NATS_ROUTE_2", "nats://route:proute@nats-2:6222")
	t.Setenv("NATS_ROUTE_3", "nats://route:proute@nats-3:6222")
	opts, err := server.ProcessConfigFile(withExamples(t))
	if err != nil {
		t.Fatal(err)
	}
	if opts.Cluster.Name != "yaosu" || opts.Cluster.Port != 6222 || len(opts.Routes) != 2 || opts.Routes[1].Host != "nats-3:6222" {
		t.Errorf("got cluster %q on port %d with routes %v", opts.Cluster.Name, opts.Cluster.Port, opts.Routes)
	}
}
