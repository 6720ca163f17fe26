package local_test

import (
	"context"
	"errors"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"yaosu/internal/enginetest"
	"yaosu/local"
)

func startBroker(t *testing.T, cfg local.BrokerConfig) *local.Broker {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	cfg.Log = testLog(t)
	b, err := local.StartBroker(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("close the broker: %v", err)
		}
	})
	return b
}

func TestBrokerKeepsItsStreams(t *testing.T) {
	for name, syncAlways := range map[string]bool{"with the default": false, "with every write synced": true} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			b := startBroker(t, local.BrokerConfig{Dir: dir, SyncAlways: syncAlways})
			js := enginetest.JetStream(t, b.URL())
			if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "BOXES", Subjects: []string{"boxes"}}); err != nil {
				t.Fatal(err)
			}
			for i := range 100 {
				if _, err := js.Publish(t.Context(), "boxes", []byte(strconv.Itoa(i))); err != nil {
					t.Fatal(err)
				}
			}
			js.Conn().Close()
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}

			js = enginetest.JetStream(t, startBroker(t, local.BrokerConfig{Dir: dir, SyncAlways: syncAlways}).URL())
			stream, err := js.Stream(t.Context(), "BOXES")
			if err != nil {
				t.Fatal(err)
			}
			if got := stream.CachedInfo().State.Msgs; got != 100 {
				t.Errorf("got %d messages, want 100", got)
			}
			if _, err := os.Stat(filepath.Join(dir, "nats")); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestBrokerPayload(t *testing.T) {
	tests := map[string]struct {
		configured int32
		want       int64
	}{
		"the default is 8 MiB":         {0, 8 << 20},
		"a configured size is granted": {1 << 20, 1 << 20},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			js := enginetest.JetStream(t, startBroker(t, local.BrokerConfig{Dir: t.TempDir(), MaxPayload: test.configured}).URL())
			if got := js.Conn().MaxPayload(); got != test.want {
				t.Errorf("got %d bytes, want %d", got, test.want)
			}
			if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "BOXES", Subjects: []string{"boxes"}}); err != nil {
				t.Fatal(err)
			}
			// The limit is for header and body; this one has no header.
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			if _, err := js.Publish(ctx, "boxes", make([]byte, test.want)); err != nil {
				t.Errorf("publish %d bytes: %v", test.want, err)
			}
		})
	}
}

func TestBrokerListensOnThisMachineOnly(t *testing.T) {
	u, err := url.Parse(startBroker(t, local.BrokerConfig{Dir: t.TempDir()}).URL())
	if err != nil {
		t.Fatal(err)
	}
	if u.Hostname() != "127.0.0.1" {
		t.Errorf("got host %s, want 127.0.0.1", u.Hostname())
	}
	for _, ip := range otherAddresses(t) {
		if conn, err := net.Dial("tcp", net.JoinHostPort(ip, u.Port())); err == nil {
			conn.Close()
			t.Errorf("connected to %s", conn.RemoteAddr())
		}
	}
}

func TestBrokerRefusesToStart(t *testing.T) {
	t.Run("on a directory that another broker uses", func(t *testing.T) {
		dir := t.TempDir()
		startBroker(t, local.BrokerConfig{Dir: dir})
		_, err := local.StartBroker(t.Context(), local.BrokerConfig{Dir: dir})
		if want := "another yaosu is using " + dir; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want: %s", err, want)
		}
	})
	t.Run("on a port that is taken, and lets the directory go", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		dir := t.TempDir()
		_, err = local.StartBroker(t.Context(), local.BrokerConfig{Dir: dir, Port: l.Addr().(*net.TCPAddr).Port})
		if err == nil || !strings.Contains(err.Error(), "address already in use") {
			t.Errorf("got %v, want: address already in use", err)
		}
		startBroker(t, local.BrokerConfig{Dir: dir})
	})
	t.Run("where it cannot write", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, "nats"), 0o700); err != nil {
			t.Fatal(err)
		}
		// A file where the server wants a directory.
		if err := os.WriteFile(filepath.Join(dir, "nats", "jetstream"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := local.StartBroker(t.Context(), local.BrokerConfig{Dir: dir})
		if err == nil || errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want the server's reason", err)
		}
	})
}

// A directory from before there were accounts keeps its streams, and what is asked
// of who comes is asked from the first start on.
func TestStreamsMoveIntoTheAccountOfTheParts(t *testing.T) {
	dir := t.TempDir()
	b := startBroker(t, local.BrokerConfig{Dir: dir})
	js := enginetest.JetStream(t, b.URL())
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "BOXES", Subjects: []string{"boxes"}}); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if _, err := js.Publish(t.Context(), "boxes", nil); err != nil {
			t.Fatal(err)
		}
	}
	js.Conn().Close()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	cfg := local.BrokerConfig{Dir: dir, Callout: &local.Callout{
		User: "parts", Password: "psecret", Account: "PARTS", Outside: "OTHERS", Services: []string{"boxes"},
		Issuer: publicKey(t, nkeys.CreateAccount), Cipher: publicKey(t, nkeys.CreateCurveKeys), System: publicKey(t, nkeys.CreateUser),
	}}
	for start := range 2 {
		b := startBroker(t, cfg)
		js := enginetest.JetStream(t, b.URL(), nats.UserInfo("parts", "psecret"))
		stream, err := js.Stream(t.Context(), "BOXES")
		if err != nil {
			t.Fatalf("start %d: %v", start, err)
		}
		if got := stream.CachedInfo().State.Msgs; got != 100 {
			t.Errorf("start %d: got %d messages, want 100", start, got)
		}
		if _, err := nats.Connect(b.URL(), nats.UserInfo("parts", "wrong")); err == nil {
			t.Error("a wrong password was let in")
		}
		js.Conn().Close()
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func publicKey(t *testing.T, create func() (nkeys.KeyPair, error)) string {
	t.Helper()
	pair, err := create()
	if err != nil {
		t.Fatal(err)
	}
	key, err := pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}
