package scanner_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"yaosu/internal/enginetest"
	"yaosu/schema"
)

// guarded is a NATS server with a user who may publish for some institutions only;
// url is theirs.
func guarded(t testing.TB, orgs ...string) (url string, js jetstream.JetStream) {
	t.Helper()
	var may []string
	for _, org := range orgs {
		may = append(may, schema.ScanSubject(region, org))
	}
	srv, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoLog: true, NoSigs: true,
		Users: []*server.User{
			{Username: "owner", Password: "owner"},
			{Username: "shop", Password: "secret", Permissions: &server.Permissions{
				Publish:   &server.SubjectPermission{Allow: may},
				Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX.>"}},
			}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() {
		srv.Shutdown()
		srv.WaitForShutdown()
	})
	if !srv.ReadyForConnections(time.Minute) {
		t.Fatal("the server takes no connections")
	}
	at := srv.Addr().String()
	js = enginetest.JetStream(t, "nats://owner:owner@"+at)
	enginetest.Streams(t, js)
	return "nats://shop:secret@" + at, js
}
