package enginetest

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"yaosu/schema"
)

// reconnectWait is short, as tests stop brokers and start them again at once.
const reconnectWait = 20 * time.Millisecond

// JetStream connects to the NATS server at url until the test ends, also when the
// server goes away and comes back there. Options are what a test needs besides.
func JetStream(t testing.TB, url string, options ...nats.Option) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(url, append([]nats.Option{nats.MaxReconnects(-1), nats.ReconnectWait(reconnectWait)}, options...)...)
	if err != nil {
		t.Fatalf("connect to NATS at %s: %v", url, err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// Streams makes the streams of the schema, each in one copy.
func Streams(t testing.TB, js jetstream.JetStream) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	if err := schema.EnsureStreams(ctx, js, 1); err != nil {
		t.Fatal(err)
	}
}
