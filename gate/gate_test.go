package gate_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"yaosu/gate"
	"yaosu/internal/enginetest"
)

func TestDoor(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var away atomic.Bool
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		ended <- gate.Run(ctx, gate.Config{Listener: listener, Ready: []gate.Probe{
			{Name: "nats", Check: func(context.Context) error { return nil }},
			{Name: "clickhouse", Check: func(context.Context) error {
				if away.Load() {
					return errors.New("password secret is wrong")
				}
				return nil
			}},
		}})
	}()
	for _, c := range []struct {
		name, path string
		away       bool
		status     int
		want       string
	}{
		{"it lives", "/healthz", false, 200, `"status":"ok"`},
		{"it is ready when all parts answer", "/readyz", false, 200, `"clickhouse":"ok"`},
		{"it lives without its parts", "/healthz", true, 200, `"status":"ok"`},
		{"it is not ready when a part is away", "/readyz", true, 503, `"clickhouse":"away","nats":"ok"`},
		{"what is not there is not found", "/nothing", false, 404, `"code":"not-found"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			away.Store(c.away)
			var got answer
			enginetest.Eventually(t, fmt.Sprintf("%d with %s", c.status, c.want), func() bool { // an answer serves for a moment
				got = get(t, "http://"+listener.Addr().String()+c.path)
				return got.Status == c.status && strings.Contains(got.Body, c.want)
			})
			if strings.Contains(got.Body, "secret") {
				t.Errorf("the answer tells the reason: %s", got.Body)
			}
		})
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("run ended with %v, want nil", err)
	}
}

func TestAPartThatHangsIsAwayAloneAndInTime(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		ended <- gate.Run(ctx, gate.Config{Listener: listener, Ready: []gate.Probe{
			{Name: "clickhouse", Check: func(ctx context.Context) error {
				<-ctx.Done()
				return ctx.Err()
			}},
			{Name: "nats", Check: func(ctx context.Context) error { return ctx.Err() }},
		}})
	}()
	resp, err := http.Get("http://" + listener.Addr().String() + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if want := `"clickhouse":"away","nats":"ok"`; resp.StatusCode != 503 || !strings.Contains(string(body), want) {
		t.Errorf("got %d %s, want 503 with %s", resp.StatusCode, body, want)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("run ended with %v, want nil", err)
	}
}
