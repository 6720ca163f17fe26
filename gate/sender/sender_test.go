package sender_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"yaosu/gate"
	"yaosu/gate/sender"
	"yaosu/internal/enginetest"
	"yaosu/local"
	"yaosu/schema"
)

// patience is generous: the machine may be busy with other tests.
const patience = 20 * time.Second

// world is a broker whose door a Callout keeps.
type world struct {
	t         *testing.T
	url       string
	key       *sender.Key
	js        jetstream.JetStream // ours
	register  *sender.Register
	directory *sender.Directory
	stop      func() // the Callout
}

const partsPassword = "psecret"

func upBroker(key *sender.Key) local.BrokerConfig {
	return local.BrokerConfig{Callout: &local.Callout{
		User: sender.PartsUser, Password: key.Password,
		Account: sender.PartsAccount, Outside: sender.SendersAccount, Services: sender.Services(),
		Issuer: key.Issuer, Cipher: key.Cipher, System: key.System,
	}}
}

// embedded is the broker of `yaosu up`.
func embedded(t *testing.T, key *sender.Key) (url, password string) {
	t.Helper()
	cfg := upBroker(key)
	cfg.Dir = t.TempDir()
	b, err := local.StartBroker(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("close the broker: %v", err)
		}
	})
	return b.URL(), key.Password
}

// configured is a server by the file in deploy, with what is an example there.
func configured(t *testing.T, key *sender.Key) (url, password string) {
	t.Helper()
	s := startServer(t, key, "")
	return s.ClientURL(), partsPassword
}

func startServer(t *testing.T, key *sender.Key, extra string) *server.Server {
	t.Helper()
	t.Setenv("NATS_PASSWORD", partsPassword)
	t.Setenv("NATS_ISSUER", key.Issuer)
	t.Setenv("NATS_CIPHER", key.Cipher)
	t.Setenv("NATS_SYSTEM", key.System)
	dir := t.TempDir()
	for name, more := range map[string]string{"nats-server.conf": "", "nats-senders.conf": extra} {
		text, err := os.ReadFile(filepath.Join("..", "..", "deploy", "nats", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), append(text, more...), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	opts, err := server.ProcessConfigFile(filepath.Join(dir, "nats-senders.conf"))
	if err != nil {
		t.Fatal(err)
	}
	opts.Port, opts.HTTPPort = server.RANDOM_PORT, server.RANDOM_PORT
	opts.StoreDir, opts.JetStreamMaxStore, opts.SyncAlways = t.TempDir(), 1<<30, false
	opts.NoSigs, opts.NoLog = true, true
	s, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(patience) {
		t.Fatal("the server does not take connections")
	}
	return s
}

func newKey(t *testing.T) *sender.Key {
	t.Helper()
	key, err := sender.LoadOrCreateKey(filepath.Join(t.TempDir(), "senders.key"))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newWorld(t *testing.T, start func(*testing.T, *sender.Key) (string, string), mode sender.Mode) *world {
	t.Helper()
	w := &world{t: t, key: newKey(t)}
	var password string
	w.url, password = start(t, w.key)
	w.js = enginetest.JetStream(t, w.url, nats.UserInfo(sender.PartsUser, password))
	enginetest.Streams(t, w.js)
	var err error
	if w.register, err = sender.Open(t.Context(), w.js, 1); err != nil {
		t.Fatal(err)
	}
	if w.directory, err = sender.Watch(t.Context(), w.register, mode, nil); err != nil {
		t.Fatal(err)
	}
	w.answer()
	return w
}

// answer runs a Callout until the test ends, or stop is called.
func (w *world) answer(options ...nats.Option) {
	w.t.Helper()
	system, err := nats.Connect(w.url, append(options, w.key.AsSystem(), nats.MaxReconnects(-1), nats.IgnoreAuthErrorAbort(), nats.ReconnectWait(20*time.Millisecond))...)
	if err != nil {
		w.t.Fatal(err)
	}
	callout, err := sender.NewCallout(sender.CalloutConfig{
		Conn: w.js.Conn(), System: system, Key: w.key, Directory: w.directory,
		Log: slog.New(slog.NewTextHandler(w.t.Output(), nil)),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1) // read once, by stop
	go func() { ended <- callout.Run(ctx) }()
	stopped := false
	w.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			w.t.Errorf("the callout ended with %v, want nil", err)
		}
		system.Close()
	}
	w.t.Cleanup(func() { w.stop() })
}

func (w *world) add(g sender.Grant) (token string) {
	w.t.Helper()
	token, _, err := w.register.Add(w.t.Context(), g)
	if err != nil {
		w.t.Fatal(err)
	}
	w.known(token, true)
	return token
}

// known waits until the Directory has heard of it.
func (w *world) known(token string, want bool) {
	w.t.Helper()
	enginetest.Eventually(w.t, "the directory knows", func() bool {
		_, err := w.directory.Sender(w.t.Context(), token)
		return (err == nil) == want
	})
}

// client is a sender's connection, and what NATS said to it.
type client struct {
	*nats.Conn
	errs   chan error
	closed chan struct{}
	gone   chan struct{} // gets one for each disconnect
}

func (w *world) connect(name string, options ...nats.Option) (*client, error) {
	c := &client{errs: make(chan error, 64), closed: make(chan struct{}), gone: make(chan struct{}, 64)} // never block the client's reader
	nc, err := nats.Connect(w.url, append([]nats.Option{
		nats.CustomInboxPrefix(sender.InboxPrefix(name)),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { c.errs <- err }),
		nats.ClosedHandler(func(*nats.Conn) { close(c.closed) }),
		nats.DisconnectErrHandler(func(*nats.Conn, error) { c.gone <- struct{}{} }),
		nats.ReconnectWait(20 * time.Millisecond),
	}, options...)...)
	if err != nil {
		return nil, err
	}
	c.Conn = nc
	w.t.Cleanup(nc.Close)
	return c, nil
}

func (w *world) mustConnect(name, token string) *client {
	w.t.Helper()
	c, err := w.connect(name, nats.Token(token))
	if err != nil {
		w.t.Fatalf("connect as %s: %v", name, err)
	}
	return c
}

// stored publishes as a sender does, and tells whether it was acknowledged.
func (c *client) stored(ctx context.Context, region, org string) error {
	js, err := jetstream.New(c.Conn)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_, err = js.Publish(ctx, schema.ScanSubject(region, org), []byte("{}"))
	return err
}

// refused tells whether NATS refuses what try does.
func (c *client) refused(t *testing.T, what string, try func() error) {
	t.Helper()
	for len(c.errs) > 0 {
		<-c.errs
	}
	if err := try(); err != nil {
		t.Errorf("%s: %v", what, err)
		return
	}
	select {
	case err := <-c.errs:
		if !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("%s: got %v, want %v", what, err, nats.ErrPermissionViolation)
		}
	case <-time.After(patience):
		t.Errorf("%s: nobody refused", what)
	}
}

var brokers = map[string]func(*testing.T, *sender.Key) (string, string){
	"on the broker of up":          embedded,
	"on a server by the conf file": configured,
}

func TestASenderSpeaksForItsOwnAlone(t *testing.T) {
	for name, start := range brokers {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, start, sender.Strict)
			shopToken := w.add(sender.Grant{Name: "shop", Orgs: map[string]string{"P01": "330106"}})
			vendorToken := w.add(sender.Grant{Name: "vendor", Orgs: map[string]string{"P02": "330106", "H03": "420106"}})
			readerToken := w.add(sender.Grant{Name: "bureau", Reads: true})

			// Somebody who answers checks, and a message of another.
			answers, err := w.js.Conn().Subscribe("check.v1.>", func(m *nats.Msg) { _ = m.Respond([]byte(`{"decision":"pass"}`)) })
			if err != nil {
				t.Fatal(err)
			}
			defer answers.Unsubscribe()
			if _, err := w.js.Publish(t.Context(), schema.ScanSubject("330106", "P02"), []byte("{}")); err != nil {
				t.Fatal(err)
			}
			kv, err := w.js.KeyValue(t.Context(), sender.Bucket)
			if err != nil {
				t.Fatal(err)
			}

			shop, vendor, reader := w.mustConnect("shop", shopToken), w.mustConnect("vendor", vendorToken), w.mustConnect("bureau", readerToken)
			for _, own := range []struct {
				who         *client
				region, org string
			}{{shop, "330106", "P01"}, {vendor, "330106", "P02"}, {vendor, "420106", "H03"}} {
				if err := own.who.stored(t.Context(), own.region, own.org); err != nil {
					t.Errorf("publish for %s, its own: %v", own.org, err)
				}
				if _, err := own.who.Request("check.v1."+own.region+"."+own.org, []byte("{}"), patience); err != nil {
					t.Errorf("check for %s, its own: %v", own.org, err)
				}
			}
			pub := func(c *client, subject string) func() error {
				return func() error { return c.PublishRequest(subject, c.NewInbox(), []byte("{}")) }
			}
			sub := func(c *client, subject string) func() error {
				return func() error { _, err := c.SubscribeSync(subject); return err }
			}
			for _, c := range []struct {
				who          *client
				what, forbid string
				try          func(*client, string) func() error
			}{
				{shop, "publish for another", "scan.v1.330106.P02", pub},
				{shop, "publish in another region", "scan.v1.420106.P01", pub},
				{shop, "publish below its own subject", "scan.v1.330106.P01.x", pub},
				{shop, "publish above its own subject", "scan.v1.330106", pub},
				{shop, "publish to all", "scan.v1.330106.>", pub},
				{shop, "publish to any", "scan.v1.330106.*", pub},
				{shop, "check for another", "check.v1.330106.P02", pub},
				{shop, "answer checks", "check.v1.330106.P01", sub},
				{shop, "answer anybody's checks", "check.v1.*.*", sub},
				{shop, "listen to its own scans", "scan.v1.330106.P01", sub},
				{shop, "listen to all scans", "scan.v1.>", sub},
				{shop, "listen to any scans", "scan.v1.*.*", sub},
				{shop, "listen to scans in a group", "scan.*.330106.P02", func(c *client, s string) func() error {
					return func() error { _, err := c.QueueSubscribeSync(s, "ingest"); return err }
				}},
				{shop, "listen to everything", ">", sub},
				{shop, "listen to the first level", "*", sub},
				{shop, "listen to rejects", "reject.v1.330106.P01", sub},
				{shop, "publish rejects", "reject.v1.330106.P01", pub},
				{shop, "listen to suspects", "suspect.v1.>", sub},
				{shop, "publish suspects", "suspect.v1.330106.resold_code", pub},
				{shop, "read replies of all", "_INBOX.>", sub},
				{shop, "read another's replies", "_INBOX_vendor.>", sub},
				{shop, "read all inboxes", "*.>", sub},
				{shop, "write into another's inbox", "_INBOX_vendor.x", pub},
				{shop, "write into a part's inbox", "_INBOX.x", pub},
				{shop, "ask about the stream", "$JS.API.STREAM.INFO.SCANS", pub},
				{shop, "purge the stream", "$JS.API.STREAM.PURGE.SCANS", pub},
				{shop, "delete the stream", "$JS.API.STREAM.DELETE.SCANS", pub},
				{shop, "make a stream", "$JS.API.STREAM.CREATE.MINE", pub},
				{shop, "fetch a message", "$JS.API.STREAM.MSG.GET.SCANS", pub},
				{shop, "fetch a message directly", "$JS.API.DIRECT.GET.SCANS.scan.v1.330106.P02", pub},
				{shop, "make a consumer", "$JS.API.CONSUMER.CREATE.SCANS.mine", pub},
				{shop, "take from a consumer", "$JS.API.CONSUMER.MSG.NEXT.SCANS.ingest", pub},
				{shop, "acknowledge for another", "$JS.ACK.SCANS.ingest.1.1.1.1.1", pub},
				{shop, "control the flow of another", "$JS.FC.SCANS.x", pub},
				{shop, "watch JetStream", "$JS.EVENT.>", sub},
				{shop, "read the credentials", "$JS.API.DIRECT.GET.KV_SENDERS.$KV.SENDERS.vendor", pub},
				{shop, "listen to the credentials", "$KV.SENDERS.>", sub},
				{shop, "write the credentials", "$KV.SENDERS.shop", pub},
				{shop, "write the ledger", "$KV.INGEST.ledger", pub},
				{shop, "listen to objects", "$O.>", sub},
				{shop, "read an object", "$JS.API.STREAM.INFO.OBJ_FILES", pub},
				{shop, "see who connects", "$SYS.REQ.USER.AUTH", sub},
				{shop, "ask who connects", "$SYS.REQ.USER.AUTH", pub},
				{shop, "ask the servers", "$SYS.REQ.SERVER.PING.CONNZ", pub},
				{shop, "ask the account", "$SYS.REQ.ACCOUNT.PING.CONNZ", pub},
				{shop, "watch the system", "$SYS.>", sub},
				{shop, "watch the servers", "$SYS.ACCOUNT.*.CONNECT", sub},
				{shop, "find services", "$SRV.PING", pub},
				{vendor, "publish for one that is not listed", "scan.v1.330106.P01", pub},
				{vendor, "publish for one of its own in the other's region", "scan.v1.420106.P02", pub},
				{vendor, "check for one that is not listed", "check.v1.330106.P01", pub},
				{vendor, "listen to another's replies", "_INBOX_shop.>", sub},
				{reader, "publish", "scan.v1.330106.P01", pub},
				{reader, "check", "check.v1.330106.P01", pub},
				{reader, "read the stream", "$JS.API.STREAM.MSG.GET.SCANS", pub},
				{reader, "listen to scans", "scan.v1.>", sub},
			} {
				c.who.refused(t, c.what, c.try(c.who, c.forbid))
			}

			// Who names a subject to be answered on gets nothing there.
			if err := putLedger(t.Context(), w.js); err != nil {
				t.Fatal(err)
			}
			for _, reply := range []string{
				"$KV.SENDERS.vendor", "$KV.INGEST.ledger", "$JS.API.STREAM.PURGE.SCANS", "$JS.API.STREAM.DELETE.SCANS",
				"$JS.API.STREAM.CREATE.MINE", "scan.v1.330106.P02", "check.v1.330106.P02", "suspect.v1.330106.x", "reject.v1.330106.P02",
			} {
				for _, subject := range []string{"scan.v1.330106.P01", "check.v1.330106.P01"} {
					if err := shop.PublishRequest(subject, reply, []byte("{}")); err != nil {
						t.Fatal(err)
					}
				}
			}
			// Answered after all of those.
			if err := shop.stored(t.Context(), "330106", "P01"); err != nil {
				t.Error(err)
			}
			if _, err := shop.Request("check.v1.330106.P01", []byte("{}"), patience); err != nil {
				t.Error(err)
			}
			if got := len(shop.errs); got > 0 {
				t.Errorf("%v", <-shop.errs)
			}

			// What was refused has left no trace.
			stream, err := w.js.Stream(t.Context(), schema.StreamScans)
			if err != nil {
				t.Fatal(err)
			}
			info, err := stream.Info(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if info.State.Msgs != 14 || info.State.LastSeq != 14 {
				t.Errorf("the stream has %d messages up to %d, want the 14 that were allowed", info.State.Msgs, info.State.LastSeq)
			}
			info, err = stream.Info(t.Context(), jetstream.WithSubjectFilter(">"))
			if err != nil {
				t.Fatal(err)
			}
			if want := map[string]uint64{"scan.v1.330106.P01": 11, "scan.v1.330106.P02": 2, "scan.v1.420106.H03": 1}; !maps.Equal(info.State.Subjects, want) {
				t.Errorf("the stream has %v, want %v", info.State.Subjects, want)
			}
			for _, name := range []string{"shop", "vendor", "bureau"} {
				if entry, err := kv.Get(t.Context(), name); err != nil || !strings.Contains(string(entry.Value()), name) {
					t.Errorf("the credential %s: %v", name, err)
				}
			}
			for name, want := range map[string]uint64{"KV_INGEST": 1, schema.StreamRejects: 0, schema.StreamSuspects: 0} {
				stream, err := w.js.Stream(t.Context(), name)
				if err != nil || stream.CachedInfo().State.LastSeq != want {
					t.Errorf("%s: got %v, %v, want %d messages", name, stream.CachedInfo().State, err, want)
				}
			}
		})
	}
}

// putLedger makes the bucket of the ingesters with one entry.
func putLedger(ctx context.Context, js jetstream.JetStream) error {
	kv, err := js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: "INGEST"})
	if err != nil {
		return err
	}
	_, err = kv.PutString(ctx, "ledger", "{}")
	return err
}

func TestNobodyElseComesIn(t *testing.T) {
	for name, start := range brokers {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, start, sender.Strict)
			token := w.add(sender.Grant{Name: "shop", Orgs: map[string]string{"P01": "330106"}})
			other := w.add(sender.Grant{Name: "vendor", Orgs: map[string]string{"P02": "330106"}})
			for _, c := range []struct {
				name    string
				options []nats.Option
				in      bool
			}{
				{"with its token", []nats.Option{nats.Token(token)}, true},
				{"with its name and token", []nats.Option{nats.UserInfo("shop", token)}, true},
				{"with nothing", nil, false},
				{"with a token nobody holds", []nats.Option{nats.Token(token + "x")}, false},
				{"with the start of a token", []nats.Option{nats.Token(token[:len(token)-1])}, false},
				{"with a name alone", []nats.Option{nats.UserInfo("shop", "")}, false},
				{"under another's name", []nats.Option{nats.UserInfo("shop", other)}, false},
				{"as a part, with a sender's token", []nats.Option{nats.UserInfo(sender.PartsUser, token)}, false},
				{"as a part, with no password", []nats.Option{nats.UserInfo(sender.PartsUser, "")}, false},
				{"as one let in before", []nats.Option{nats.UserInfo("shop@1", "")}, false},
				{"with another key to the system", []nats.Option{newKey(t).AsSystem()}, false},
			} {
				got, err := w.connect("shop", c.options...)
				if (err == nil) != c.in {
					t.Errorf("%s: got %v, want let in %v", c.name, err, c.in)
				}
				if err != nil && !errors.Is(err, nats.ErrAuthorization) {
					t.Errorf("%s: got %v, want %v", c.name, err, nats.ErrAuthorization)
				}
				if got != nil {
					got.Close()
				}
			}
		})
	}
}

func TestWhatIsRevokedIsRefusedAtOnce(t *testing.T) {
	for name, start := range brokers {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, start, sender.Strict)
			token := w.add(sender.Grant{Name: "shop", Orgs: map[string]string{"P01": "330106"}})
			other := w.add(sender.Grant{Name: "vendor", Orgs: map[string]string{"P02": "330106", "P03": "330106"}})
			shop, vendor := w.mustConnect("shop", token), w.mustConnect("vendor", other)
			if err := shop.stored(t.Context(), "330106", "P01"); err != nil {
				t.Fatal(err)
			}
			if _, err := w.register.Revoke(t.Context(), "shop"); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			select {
			case <-shop.closed: // it tried to come back and was refused
			case <-time.After(patience):
				t.Fatal("a connection outlived its credential")
			}
			t.Logf("the connection ended for good after %s", time.Since(began))
			if _, err := w.connect("shop", nats.Token(token)); !errors.Is(err, nats.ErrAuthorization) {
				t.Errorf("connect again: got %v, want %v", err, nats.ErrAuthorization)
			}
			if _, err := w.directory.Sender(t.Context(), token); !errors.Is(err, gate.ErrUnknownSender) {
				t.Errorf("over HTTP: got %v, want %v", err, gate.ErrUnknownSender)
			}
			if len(vendor.gone) > 0 {
				t.Error("another's connection was ended too")
			}

			// One institution less: who is connected comes back with what is left.
			if _, err := w.register.Revoke(t.Context(), "vendor", "P03"); err != nil {
				t.Fatal(err)
			}
			select {
			case <-vendor.gone:
			case <-time.After(patience):
				t.Fatal("a connection kept an institution that was taken away")
			}
			enginetest.Eventually(t, "the vendor is back", vendor.IsConnected)
			if err := vendor.stored(t.Context(), "330106", "P02"); err != nil {
				t.Errorf("publish for what is left: %v", err)
			}
			vendor.refused(t, "publish for what was taken away", func() error { return vendor.Publish("scan.v1.330106.P03", nil) })

			// A new token: the old one is refused, institutions stay.
			fresh, _, err := w.register.Add(t.Context(), sender.Grant{Name: "vendor", NewToken: true})
			if err != nil {
				t.Fatal(err)
			}
			w.known(fresh, true)
			if _, err := w.connect("vendor", nats.Token(other)); !errors.Is(err, nats.ErrAuthorization) {
				t.Errorf("the old token: got %v, want %v", err, nats.ErrAuthorization)
			}
			if err := w.mustConnect("vendor", fresh).stored(t.Context(), "330106", "P02"); err != nil {
				t.Errorf("the new token: %v", err)
			}
		})
	}
}

func TestWhenNobodyAnswersThoseWhoAreInStay(t *testing.T) {
	for name, start := range brokers {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, start, sender.Strict)
			token := w.add(sender.Grant{Name: "shop", Orgs: map[string]string{"P01": "330106"}})
			other := w.add(sender.Grant{Name: "vendor", Orgs: map[string]string{"P02": "330106"}})
			shop, vendor := w.mustConnect("shop", token), w.mustConnect("vendor", other)
			w.stop()
			if err := shop.stored(t.Context(), "330106", "P01"); err != nil {
				t.Errorf("publish while nobody answers: %v", err)
			}
			if _, err := w.connect("shop", nats.Token(token)); err == nil {
				t.Error("somebody new was let in while nobody answers")
			}
			if _, err := w.register.Revoke(t.Context(), "shop"); err != nil {
				t.Fatal(err)
			}
			w.answer()
			select {
			case <-shop.closed:
			case <-time.After(patience):
				t.Error("who was revoked while nobody ran is still connected")
			}
			if err := vendor.stored(t.Context(), "330106", "P02"); err != nil {
				t.Errorf("the other one: %v", err)
			}
		})
	}
}

func TestAnOpenDoorShutsWithTheFirstCredential(t *testing.T) {
	for _, c := range []struct {
		mode sender.Mode
		open bool // after that
	}{{sender.Auto, false}, {sender.Anyone, true}} {
		t.Run(string(c.mode), func(t *testing.T) {
			w := newWorld(t, embedded, c.mode)
			nobody, err := w.connect("x")
			if err != nil {
				t.Fatalf("without a credential: %v", err)
			}
			js, err := jetstream.New(nobody.Conn)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := js.Stream(t.Context(), schema.StreamScans); err != nil {
				t.Errorf("an open door lets everything be done: %v", err)
			}
			if _, err := w.connect("x", nats.Token("yaosu_X")); !errors.Is(err, nats.ErrAuthorization) {
				t.Errorf("a wrong token at an open door: got %v, want %v", err, nats.ErrAuthorization)
			}
			token := w.add(sender.Grant{Name: "shop", Orgs: map[string]string{"P01": "330106"}})
			shop := w.mustConnect("shop", token)
			shop.refused(t, "who says who he is is held to it", func() error { return shop.Publish("scan.v1.330106.P02", nil) })
			<-w.directory.Shut()
			if !c.open {
				select {
				case <-nobody.closed:
				case <-time.After(patience):
					t.Error("who came without a credential is still there")
				}
			}
			if _, err := w.connect("x"); (err == nil) != c.open {
				t.Errorf("without a credential: got %v, want let in %v", err, c.open)
			}
			who, err := w.directory.Sender(t.Context(), "")
			if got := err == nil && who == nil; got != c.open {
				t.Errorf("over HTTP without a credential: got %v, %v, want let in %v", who, err, c.open)
			}
			// All revoked is not the same as never any.
			if _, err := w.register.Revoke(t.Context(), "shop"); err != nil {
				t.Fatal(err)
			}
			w.known(token, false)
			if got := w.directory.Open(); got != c.open {
				t.Errorf("with all revoked: got open %v, want %v", got, c.open)
			}
		})
	}
}

func TestWhatIsRevokedWhileNATSRestartsIsRefused(t *testing.T) {
	dir, port := t.TempDir(), 0
	var broker *local.Broker
	var key *sender.Key
	start := func() {
		t.Helper()
		cfg := upBroker(key)
		cfg.Dir, cfg.Port = dir, port
		var err error
		if broker, err = local.StartBroker(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(broker.URL())
		if err != nil {
			t.Fatal(err)
		}
		if port, err = strconv.Atoi(u.Port()); err != nil {
			t.Fatal(err)
		}
	}
	w := newWorld(t, func(_ *testing.T, k *sender.Key) (string, string) {
		key = k
		start()
		return broker.URL(), key.Password
	}, sender.Strict)
	defer func() { _ = broker.Close() }()
	token := w.add(sender.Grant{Name: "shop", Orgs: map[string]string{"P01": "330106"}})
	other := w.add(sender.Grant{Name: "vendor", Orgs: map[string]string{"P02": "330106"}})
	options := []nats.Option{nats.MaxReconnects(-1), nats.IgnoreAuthErrorAbort()}
	vendor, err := w.connect("vendor", append(options, nats.Token(other))...)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := broker.Close(); err != nil {
			t.Fatal(err)
		}
		start()
		// Who was in comes back by itself, and so do we.
		enginetest.Eventually(t, "the vendor is back", vendor.IsConnected)
		enginetest.Eventually(t, "its messages are acknowledged again", func() bool {
			// Nobody says no while the stream is not back yet.
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			return vendor.stored(ctx, "330106", "P02") == nil
		})
	}
	if _, err := w.register.Revoke(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	w.known(token, false)
	if _, err := w.connect("shop", nats.Token(token)); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("got %v, want %v", err, nats.ErrAuthorization)
	}
}

func TestManyInstitutionsAndManyConnections(t *testing.T) {
	w := newWorld(t, embedded, sender.Strict)
	orgs := map[string]string{}
	for i := range 3000 {
		orgs[fmt.Sprintf("P%011d", i)] = "330106"
	}
	token := w.add(sender.Grant{Name: "vendor", Orgs: orgs})
	vendor := w.mustConnect("vendor", token)
	for org := range orgs {
		if err := vendor.stored(t.Context(), "330106", org); err != nil {
			t.Errorf("publish for %s of 3000: %v", org, err)
		}
		break
	}
	vendor.refused(t, "publish for one that is not listed", func() error { return vendor.Publish("scan.v1.330106.P99999999999", nil) })

	shop := w.add(sender.Grant{Name: "shop", Orgs: map[string]string{"P01": "330106"}})
	const many = 200
	began := time.Now()
	var group errgroup.Group
	group.SetLimit(20)
	for range many {
		group.Go(func() error {
			_, err := w.connect("shop", nats.Token(shop), nats.Timeout(patience))
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d connections in %s", many, time.Since(began))
}

func TestOnlyAHashIsKept(t *testing.T) {
	w := newWorld(t, embedded, sender.Strict)
	seen, err := w.js.Conn().SubscribeSync(">")
	if err != nil {
		t.Fatal(err)
	}
	token := w.add(sender.Grant{Name: "shop", Orgs: map[string]string{"P01": "330106"}})
	w.mustConnect("shop", token)
	for {
		msg, err := seen.NextMsg(200 * time.Millisecond)
		if err != nil {
			break
		}
		if strings.Contains(string(msg.Data), token) {
			t.Errorf("the token goes over %s", msg.Subject)
		}
		// A JWT would say it in Base64.
		if strings.HasPrefix(msg.Subject, "$SYS.REQ.USER") && strings.HasPrefix(string(msg.Data), "eyJ") {
			t.Errorf("what NATS asks on %s is not encrypted", msg.Subject)
		}
	}
	kv, err := w.js.KeyValue(t.Context(), sender.Bucket)
	if err != nil {
		t.Fatal(err)
	}
	entry, err := kv.Get(t.Context(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	var kept map[string]any
	if err := json.Unmarshal(entry.Value(), &kept); err != nil || strings.Contains(string(entry.Value()), token[len("yaosu_"):]) {
		t.Errorf("got %s, %v, want no token in it", entry.Value(), err)
	}
}
