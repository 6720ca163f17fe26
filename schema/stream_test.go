package schema_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"yaosu/internal/enginetest"
	"yaosu/schema"
)

// settings are those of the stream SCANS, as the server tells them.
func settings(t *testing.T, js jetstream.JetStream) map[string]any {
	t.Helper()
	answer, err := js.Conn().Request("$JS.API.STREAM.INFO."+schema.StreamScans, nil, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	var info struct {
		Config map[string]any `json:"config"`
	}
	if err := json.Unmarshal(answer.Data, &info); err != nil {
		t.Fatal(err)
	}
	return info.Config
}

func TestStreamsTakeScansAndAtomicBatches(t *testing.T) {
	js := enginetest.JetStream(t, enginetest.Broker(t).URL())
	for range 2 { // as every start does
		if err := schema.EnsureStreams(t.Context(), js, 1); err != nil {
			t.Fatal(err)
		}
	}
	got := settings(t, js)
	for name, want := range map[string]any{"allow_atomic": true, "discard": "new", "storage": "file", "retention": "limits", "num_replicas": 1.0} {
		if got[name] != want {
			t.Errorf("%s: got %v, want %v", name, got[name], want)
		}
	}
}

func TestAnOlderStreamLearnsAtomicBatchesAndKeepsTheRest(t *testing.T) {
	js := enginetest.JetStream(t, enginetest.Broker(t).URL())
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name:        schema.StreamScans,
		Description: "ours",
		Subjects:    []string{"scan.v1.>", "old.scan"},
		Discard:     jetstream.DiscardNew,
		MaxMsgs:     12345,
		MaxBytes:    1 << 30,
		MaxAge:      time.Hour,
		Duplicates:  7 * time.Minute,
		AllowDirect: true,
		Metadata:    map[string]string{"owner": "us"},
	}); err != nil {
		t.Fatal(err)
	}
	want := settings(t, js)
	if err := schema.EnsureStreams(t.Context(), js, 1); err != nil {
		t.Fatal(err)
	}
	got := settings(t, js)
	if got["allow_atomic"] != true {
		t.Error("allow_atomic: got false, want true")
	}
	delete(got, "allow_atomic")
	// The server notes there what a setting needs of it.
	delete(got["metadata"].(map[string]any), "_nats.req.level")
	delete(want["metadata"].(map[string]any), "_nats.req.level")
	g, _ := json.Marshal(got)
	w, _ := json.Marshal(want)
	if string(g) != string(w) {
		t.Errorf("other settings: got\n%s\nwant\n%s", g, w)
	}
}

func TestAStreamThatCouldLoseScansIsRefused(t *testing.T) {
	for _, c := range []struct {
		name  string
		setup jetstream.StreamConfig
		want  string
	}{
		{"it is in memory", jetstream.StreamConfig{Subjects: []string{"scan.v1.>"}, Storage: jetstream.MemoryStorage, Discard: jetstream.DiscardNew}, "not stored on file"},
		{"it drops the old", jetstream.StreamConfig{Subjects: []string{"scan.v1.>"}}, "drops old messages when full"},
		{"it writes later", jetstream.StreamConfig{Subjects: []string{"scan.v1.>"}, Discard: jetstream.DiscardNew, PersistMode: jetstream.AsyncPersistMode}, "acknowledges before it writes"},
		{"it listens elsewhere", jetstream.StreamConfig{Subjects: []string{"scans"}, Discard: jetstream.DiscardNew}, "listens to [scans]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			js := enginetest.JetStream(t, enginetest.Broker(t).URL())
			c.setup.Name = schema.StreamScans
			if _, err := js.CreateStream(t.Context(), c.setup); err != nil {
				t.Fatal(err)
			}
			if err := schema.EnsureStreams(t.Context(), js, 1); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want it to say: %s", err, c.want)
			}
		})
	}
}
