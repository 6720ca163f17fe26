package enginetest_test

import (
	"context"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2"

	"yaosu/internal/enginetest"
)

func TestMain(m *testing.M) { enginetest.Main(m) }

func TestDatabase(t *testing.T) {
	for _, transport := range []string{"native", "http"} {
		t.Run("each test has a database of its own over "+transport, func(t *testing.T) {
			for range 2 {
				opts, err := clickhouse.ParseDSN(enginetest.Database(t, transport))
				if err != nil {
					t.Fatal(err)
				}
				conn, err := clickhouse.Open(opts)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				// The same name twice: it would exist if the two were one.
				if err := conn.Exec(context.Background(), "CREATE TABLE boxes (id UInt64) ENGINE = MergeTree ORDER BY id"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	t.Run("two tests share one engine", func(t *testing.T) {
		if a, b := enginetest.Engine(t), enginetest.Engine(t); a != b {
			t.Errorf("got processes %d and %d, want one", a.Pid(), b.Pid())
		}
	})
}

func TestBroker(t *testing.T) {
	js := enginetest.JetStream(t, enginetest.Broker(t).URL())
	if _, err := js.AccountInfo(t.Context()); err != nil {
		t.Errorf("JetStream: %v", err)
	}
}
