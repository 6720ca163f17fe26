package check_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"yaosu/gate"
	"yaosu/gate/check"
	"yaosu/internal/enginetest"
	"yaosu/schema"
)

func portOf(t *testing.T, address string) int {
	t.Helper()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestOverNATS(t *testing.T) {
	w := newWorld(t, enginetest.Database(t, "http"), enginetest.Broker(t).URL())
	checker, _ := w.start()
	conn := w.js.Conn()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- checker.Serve(ctx, conn) }()
	w.publish("A e1 sale 05-01T10:00 box")
	w.settle(checker)
	var answer *nats.Msg
	enginetest.Eventually(t, "somebody answers", func() bool {
		m, err := conn.Request("check.v1.530102.B", []byte(`{"codes":["`+codes["box"]+`"]}`), 5*time.Second)
		answer = m
		return !errors.Is(err, nats.ErrNoResponders)
	})
	var reply gate.CheckReply
	if err := json.Unmarshal(answer.Data, &reply); err != nil || told(reply) != "stop resold_code" {
		t.Errorf("got %s (%v), want a stop", answer.Data, err)
	}
	for _, c := range []struct{ name, subject, body, want string }{
		{"another shop's question", "check.v1.530102.B", `{"codes":["1"],"org":"A","region":"530102"}`, "与主题不符"},
		{"another county's question", "check.v1.530102.B", `{"codes":["1"],"org":"B","region":"530101"}`, "与主题不符"},
		{"no JSON", "check.v1.530102.B", `{"codes":`, "JSON"},
		{"two questions", "check.v1.530102.B", `{"codes":["1"]} {"codes":["1"]}`, "单独一个"},
		{"no codes", "check.v1.530102.B", `{}`, "1 至 1000"},
		{"no quantity", "check.v1.530102.B", `{"codes":["1"],"quantity":0}`, "quantity"},
		{"no county", "check.v1.53.B", `{"codes":["1"]}`, "region"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := conn.Request(c.subject, []byte(c.body), 5*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			if m.Header.Get(schema.HeaderError) != "400" || !strings.Contains(string(m.Data), c.want) {
				t.Errorf("got %v %s, want 400 with %q", m.Header, m.Data, c.want)
			}
		})
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("serve ended with %v, want nil", err)
	}
}

// FuzzDecode sends what outsiders may: whatever it is, the answer is a request that
// can be answered or a reason.
func FuzzDecode(f *testing.F) {
	for _, seed := range [][2]string{
		{"check.v1.530102.B", `{"codes":["81000010000000000001"],"org":"B","region":"530102","person":"1","settlement":"S","drug":"X1","split":true,"quantity":1.5}`},
		{"check.v1.530102.B", `{"codes":["]d20106924561884074172603042110SN1\u001d10L","无"],"quantity":1e300}`},
		{"check.v1.530102", `[]`},
		{"check.v1.530102.B", `{"codes":[null],"quantity":-0}`},
	} {
		f.Add(seed[0], []byte(seed[1]))
	}
	checker, err := check.Over(f.TempDir(), testKey(f), nil, boxes(0), 100, now)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, subject string, body []byte) {
		q, err := check.Decode(subject, body)
		var reply gate.CheckReply
		if err == nil {
			reply, err = checker.Check(t.Context(), q)
		}
		var refusal *gate.RequestError
		if err != nil && !errors.As(err, &refusal) {
			t.Fatalf("got %v, want a RequestError", err)
		}
		if err == nil && len(reply.Codes) != len(q.Codes) {
			t.Errorf("got %d answers for %d codes", len(reply.Codes), len(q.Codes))
		}
	})
}
