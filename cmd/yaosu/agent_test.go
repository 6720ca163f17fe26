package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"yaosu/gate"
	"yaosu/internal/enginetest"
	"yaosu/internal/proc"
	"yaosu/scanner"
	"yaosu/schema"
)

var agentChaos = flag.Duration("agent-chaos", 12*time.Second, "how long the network, NATS and the agent are broken at random")

// street is the network between a shop and NATS, which can be cut.
type street struct {
	url    string // to NATS, through it
	target string

	mu    sync.Mutex // guards the following
	cut   bool
	links map[net.Conn]bool
}

func startStreet(t *testing.T, natsURL string) *street {
	t.Helper()
	u, err := url.Parse(natsURL)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &street{url: "nats://" + listener.Addr().String(), target: u.Host, links: map[net.Conn]bool{}}
	var open sync.WaitGroup
	open.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return // closed below
			}
			server, err := net.Dial("tcp", s.target)
			if err != nil || !s.keeps(client, server) {
				_ = client.Close() // as nobody was there
				continue
			}
			for from, to := range map[net.Conn]net.Conn{client: server, server: client} {
				open.Go(func() {
					_, _ = io.Copy(to, from) // either end may go at any time
					_ = to.Close()
				})
			}
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		s.set(true)
		open.Wait()
	})
	return s
}

// keeps tells whether a connection may be.
func (s *street) keeps(client, server net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cut {
		_ = server.Close()
		return false
	}
	s.links[client], s.links[server] = true, true
	return true
}

// set cuts all connections and lets none be, or lets them be again.
func (s *street) set(cut bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut = cut
	for link := range s.links {
		_ = link.Close()
	}
	clear(s.links)
}

// shopAgent is `yaosu scanner` in a process that can be killed and started again.
type shopAgent struct {
	t    *testing.T
	args []string
	url  string // of its door
	said text

	cmd  *exec.Cmd
	done chan struct{}
}

func startAgent(t *testing.T, natsURL, spool string, args ...string) *shopAgent {
	t.Helper()
	// Its port stays the same, as a till has one address.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	a := &shopAgent{t: t, url: "http://" + at}
	a.args = append([]string{"scanner", "--nats", natsURL, "--spool", spool, "--listen", at}, args...)
	a.start()
	t.Cleanup(func() {
		a.kill()
		if t.Failed() {
			t.Logf("the agent said:\n%s", a.said.String())
		}
	})
	return a
}

// start returns when the door answers.
func (a *shopAgent) start() {
	a.t.Helper()
	a.cmd = exec.Command("yaosu", a.args...)
	a.cmd.Stderr = &a.said
	if err := a.cmd.Start(); err != nil {
		a.t.Fatal(err)
	}
	done := make(chan struct{})
	a.done = done
	go func() {
		_ = a.cmd.Wait() // killed, mostly
		close(done)
	}()
	enginetest.Eventually(a.t, "the agent answers", func() bool {
		resp, err := http.Get(a.url + "/healthz")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

func (a *shopAgent) kill() {
	_ = a.cmd.Process.Kill() // the only error is that it is gone
	<-a.done
}

func agentSale(org, n int) string {
	return fmt.Sprintf(`{"event_id":"R%d","kind":"sale","time":"2026-03-02T10:%02d:%02d+08:00","org":"P%d","region":"330106","codes":["8123456%d%012d"],"settlement":"S%d"}`,
		n, n/60%60, n%60, org, org, n, n)
}

// sell posts a sale until it is taken in, as a till does, and tells whether it was at
// the first attempt.
func sell(client *http.Client, at string, sales string, stop <-chan struct{}) (attempts int, ok bool) {
	for {
		attempts++
		resp, err := client.Post(at+"/v1/scans", "application/x-ndjson", strings.NewReader(sales))
		if err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return attempts, true
			}
		}
		select {
		case <-stop:
			return attempts, false
		case <-time.After(20 * time.Millisecond): // before it tries again
		}
	}
}

// A shop sells through its agent while the network, NATS and the agent are killed at
// random. What its door took in is in the table once.
func TestAShopSellsWhateverBreaks(t *testing.T) {
	dsn := enginetest.Database(t, "http")
	db := enginetest.Schema(t, dsn)
	broker := proc.StartBroker(t, proc.BrokerConfig{SyncAlways: true})
	enginetest.Streams(t, enginetest.JetStream(t, broker.URL()))
	key := filepath.Join(t.TempDir(), "person.key")
	if _, err := schema.LoadOrCreatePersonKey(key); err != nil {
		t.Fatal(err)
	}
	proc.StartIngester(t, proc.IngesterConfig{NATS: broker.URL(), ClickHouse: dsn, KeyFile: key, MaxAge: 50 * time.Millisecond, Log: slog.LevelError})
	road := startStreet(t, broker.URL())
	spool := filepath.Join(t.TempDir(), "spool")
	agent := startAgent(t, road.url, spool)

	const tills = 4
	closing := make(chan struct{}) // no new sales
	ending := make(chan struct{})  // no attempts either: the test has failed
	defer sync.OnceFunc(func() { close(ending) })()
	var selling sync.WaitGroup
	var sold [tills]int
	var attempts, failed atomic.Int64
	for till := range tills {
		selling.Go(func() {
			client := &http.Client{Timeout: 10 * time.Second}
			for {
				select {
				case <-closing:
					return
				default:
				}
				lines := ""
				for range 1 + rand.IntN(3) {
					lines += agentSale(till, sold[till]) + "\n"
					sold[till]++
				}
				n, ok := sell(client, agent.url, lines, ending)
				attempts.Add(int64(n))
				if !ok {
					failed.Add(1)
					return
				}
			}
		})
	}

	did := map[string]int{}
	began := time.Now()
	passes := func() { <-time.After(time.Duration(rand.IntN(800)) * time.Millisecond) }
	tricks := []string{"agent killed", "NATS killed", "network cut", "network lost a connection", "check"}
	for round := 0; round < len(tricks) || time.Since(began) < *agentChaos; round++ {
		trick := tricks[rand.IntN(len(tricks))]
		if round < len(tricks) {
			trick = tricks[round] // each once, at least
		}
		did[trick]++
		switch trick {
		case "agent killed":
			agent.kill()
			agent.start()
		case "NATS killed":
			broker.Kill()
			passes()
			broker.Start()
		case "network cut":
			road.set(true)
			passes()
			road.set(false)
		case "network lost a connection":
			road.set(false)
		case "check":
			wantWarning(t, agent.url, 0)
		}
		passes() // what is broken next finds it at another point
	}
	close(closing)
	selling.Wait()
	if failed.Load() > 0 {
		t.Fatalf("%d tills could not sell in the end", failed.Load())
	}
	road.set(false)
	all := 0
	for _, n := range sold {
		all += n
	}
	enginetest.Eventually(t, "the spool is empty", func() bool {
		st, err := scanner.Look(spool)
		if err != nil {
			t.Fatal(err)
		}
		if st.SetAside > 0 {
			t.Fatalf("%d events were set aside, want none", st.SetAside)
		}
		return st.Pending == 0
	})
	var rows, events uint64
	count := func() bool {
		if err := db.QueryRow(t.Context(), "SELECT count(), uniqExact(org, event_id) FROM scans").Scan(&rows, &events); err != nil {
			t.Fatal(err)
		}
		return events >= uint64(all)
	}
	enginetest.Eventually(t, "all is in the table", count)
	if rows != uint64(all) || events != uint64(all) {
		t.Errorf("in the table: got %d rows of %d events, want %d", rows, events, all)
	}
	for till, n := range sold {
		var got, last uint64
		if err := db.QueryRow(t.Context(), "SELECT count(), max(toUInt64(substring(event_id, 2))) FROM scans WHERE org = ?", fmt.Sprintf("P%d", till)).Scan(&got, &last); err != nil {
			t.Fatal(err)
		}
		if got != uint64(n) || last != uint64(n-1) {
			t.Errorf("till %d: got %d sales up to %d, want %d", till, got, last, n)
		}
	}
	for _, empty := range []string{"rejects", "id_conflicts"} {
		var n uint64
		if err := db.QueryRow(t.Context(), "SELECT count() FROM "+empty).Scan(&n); err != nil || n > 0 {
			t.Errorf("%s: got %d and %v, want none", empty, n, err)
		}
	}
	t.Logf("%d sales by %d requests in %s; %v", all, attempts.Load(), time.Since(began).Round(time.Second), did)
}

// wantWarning asks for the first box of a till: with nobody upstream who answers checks,
// it is a warning, degraded and in time.
func wantWarning(t *testing.T, at string, till int) gate.CheckReply {
	t.Helper()
	client := &http.Client{Timeout: 10 * time.Second}
	body := fmt.Sprintf(`{"codes":["8123456%d%012d"],"org":"P%d","region":"330106"}`, till, 0, till)
	resp, err := client.Post(at+"/v1/check", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var reply gate.CheckReply
	if err := json.NewDecoder(resp.Body).Decode(&reply); err != nil {
		t.Fatal(err)
	}
	if reply.Decision != gate.Warn || !reply.Degraded || len(reply.Codes) != 1 || reply.TookMs > 5000 {
		t.Errorf("check: got %+v, want a warning in time", reply)
	}
	return reply
}

func TestAnAgentAnswersChecksByItself(t *testing.T) {
	broker := enginetest.Broker(t)
	road := startStreet(t, broker.URL())
	spool := filepath.Join(t.TempDir(), "spool")
	agent := startAgent(t, road.url, spool, "--org", "P0:330106")
	client := &http.Client{Timeout: time.Minute}
	if _, ok := sell(client, agent.url, agentSale(0, 0), nil); !ok {
		t.Fatal("a sale was not taken in")
	}
	first := wantWarning(t, agent.url, 0)
	if got := first.Codes[0].Reasons[0]; got.Rule != "sold_here" || first.Codes[0].Last == nil || !first.Codes[0].Last.Own {
		t.Errorf("a box that was sold here: got %+v", first.Codes[0])
	}
	agent.kill()
	agent.start()
	if got := wantWarning(t, agent.url, 0).Codes[0].Reasons[0].Rule; got != "sold_here" {
		t.Errorf("after a restart: got %s, want it remembered", got)
	}

	// Somebody upstream answers: it is his answer.
	js := enginetest.JetStream(t, broker.URL())
	upstream, err := js.Conn().SubscribeSync("check.v1.*.*")
	if err != nil {
		t.Fatal(err)
	}
	if err := js.Conn().Flush(); err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			msg, err := upstream.NextMsg(time.Minute)
			if err != nil {
				return // the test is over
			}
			_ = msg.Respond([]byte(`{"decision":"stop","degraded":false,"codes":[{"code":"x","scheme":"cn20","decision":"stop","reasons":[{"rule":"resold_code","text":"…"}]}]}`))
		}
	}()
	ask := func() (reply gate.CheckReply) {
		resp, err := client.Post(agent.url+"/v1/check", "application/json", strings.NewReader(`{"codes":["81234560000000000000"],"org":"P0","region":"330106"}`))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if err := json.NewDecoder(resp.Body).Decode(&reply); err != nil {
			t.Fatal(err)
		}
		return reply
	}
	enginetest.Eventually(t, "upstream answers", func() bool { r := ask(); return r.Decision == gate.Stop && !r.Degraded })
	road.set(true)
	enginetest.Eventually(t, "the agent answers again", func() bool { r := ask(); return r.Decision == gate.Warn && r.Degraded })

	// A sale of another shop is refused here, and recorded there.
	resp, err := client.Post(agent.url+"/v1/scans", "application/json", strings.NewReader(agentSale(1, 0)))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil || !bytes.Contains(body, []byte(`"rejected":1`)) {
		t.Errorf("a sale of another shop: got %s and %v, want it rejected", body, err)
	}
	road.set(false)
	enginetest.Streams(t, js)
	enginetest.Eventually(t, "the spool is empty", func() bool {
		st, err := scanner.Look(spool)
		return err == nil && st.Pending == 0
	})
	stream, err := js.Stream(t.Context(), schema.StreamScans)
	if err != nil {
		t.Fatal(err)
	}
	refused, err := stream.GetLastMsgForSubject(t.Context(), schema.ScanSubject("330106", "P1"))
	if err != nil {
		t.Fatal(err)
	}
	if got := refused.Header.Get(schema.HeaderRejectCode); got != schema.RefuseForeign {
		t.Errorf("the refused sale: got code %q, want %q", got, schema.RefuseForeign)
	}
	if n := streamMessages(t, stream); n != 2 {
		t.Errorf("got %d messages in the stream, want the sale and the refused one", n)
	}
	for _, want := range []string{"0 条等待上传"} {
		out, err := exec.Command("yaosu", "scanner", "--status", "--spool", spool).Output()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("status: got %s and %v, want it to say %s", out, err, want)
		}
	}
}

func streamMessages(t *testing.T, stream jetstream.Stream) uint64 {
	t.Helper()
	info, err := stream.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return info.State.Msgs
}

// A till whose agent has no room is told what to do, in the words of either door; when
// there is room it goes on, and nothing is lost.
func TestAnAgentThatIsFullSaysWhatToDo(t *testing.T) {
	broker := enginetest.Broker(t)
	js := enginetest.JetStream(t, broker.URL())
	enginetest.Streams(t, js)
	road := startStreet(t, broker.URL())
	road.set(true)
	agent := startAgent(t, road.url, filepath.Join(t.TempDir(), "spool"), "--spool-bytes", "20000")
	post := func(path, body string) (status int, problem, text string) {
		resp, err := http.Post(agent.url+path, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		said, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		var p struct{ Code string }
		if err := json.Unmarshal(said, &p); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, p.Code + resp.Header.Get("X-Problem-Code"), string(said)
	}
	taken := 0
	for ; taken < 1000; taken++ {
		status, problem, text := post("/v1/scans", agentSale(0, taken))
		if status == http.StatusOK {
			continue
		}
		if status != http.StatusServiceUnavailable || problem != "storage-full" || !strings.Contains(text, "恢复网络") {
			t.Fatalf("sale %d: got %d %s, want 503 storage-full and what to do", taken, status, text)
		}
		break
	}
	if taken < 10 || taken == 1000 {
		t.Fatalf("it took %d sales", taken)
	}
	row := `{"infno":"3505","inf_time":"2026-03-02 10:00:00","fixmedins_code":"P0","fixmedins_admdvs":"330106","input":{"selinfo":{"fixmedins_bchno":"B1",
		"sel_retn_time":"2026-03-02 10:00:00","sel_retn_cnt":"1","trdn_flag":"0","mdtrt_setl_type":"2","drugtracinfo":[{"drug_trac_codg":"81234560000000000099"}]}}}`
	if status, problem, text := post("/v1/nhsa/3505", row); status != http.StatusOK || problem != "storage-full" || !strings.Contains(text, "恢复网络") || strings.Contains(text, `"infcode":"0"`) {
		t.Errorf("a message of the insurance: got %d %s %s, want storage-full and what to do", status, problem, text)
	}
	road.set(false)
	enginetest.Eventually(t, "there is room again", func() bool {
		status, _, _ := post("/v1/scans", agentSale(0, taken))
		return status == http.StatusOK
	})
	stream, err := js.Stream(t.Context(), schema.StreamScans)
	if err != nil {
		t.Fatal(err)
	}
	enginetest.Eventually(t, "all that was taken is in the stream", func() bool {
		stored := map[string]bool{}
		for seq := uint64(1); seq <= streamMessages(t, stream); seq++ {
			msg, err := stream.GetMsg(t.Context(), seq)
			if err != nil {
				t.Fatal(err)
			}
			for line := range bytes.Lines(msg.Data) {
				stored[string(bytes.TrimSpace(line))] = true
			}
		}
		for n := range taken + 1 {
			if !stored[agentSale(0, n)] {
				return false
			}
		}
		return true
	})
}

// An agent with a credential sends what that stands for, sets the rest aside, and puts
// it back when told to.
func TestAnAgentWithACredential(t *testing.T) {
	shop := &server.User{Username: "shop", Password: "token", Permissions: &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: []string{schema.ScanSubject("330106", "P0")}},
		Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX_shop.>"}},
	}}
	options := &server.Options{
		Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoLog: true, NoSigs: true,
		Users: []*server.User{{Username: "owner", Password: "owner"}, shop},
	}
	srv, err := server.NewServer(options)
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() {
		srv.Shutdown()
		srv.WaitForShutdown()
	})
	if !srv.ReadyForConnections(patience) {
		t.Fatal("the server takes no connections")
	}
	js := enginetest.JetStream(t, "nats://owner:owner@"+srv.Addr().String())
	enginetest.Streams(t, js)
	stream, err := js.Stream(t.Context(), schema.StreamScans)
	if err != nil {
		t.Fatal(err)
	}
	token := filepath.Join(t.TempDir(), "shop.token")
	if err := os.WriteFile(token, []byte("a wrong one\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	spool := filepath.Join(t.TempDir(), "spool")
	url := "nats://shop@" + srv.Addr().String()
	agent := startAgent(t, url, spool, "--credential", token)
	client := &http.Client{Timeout: time.Minute}
	if _, ok := sell(client, agent.url, agentSale(0, 0)+"\n"+agentSale(1, 0), nil); !ok {
		t.Fatal("sales were not taken in")
	}
	status := func() scanner.Status {
		st, err := scanner.Look(spool)
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	enginetest.Eventually(t, "it says that the credential is wrong", func() bool {
		return strings.Contains(strings.ToLower(agent.said.String()), "authorization violation")
	})
	if st := status(); st.Pending != 2 || st.SetAside != 0 {
		t.Errorf("with a wrong token: got %+v, want both to wait", st)
	}
	// Somebody mends the file; nobody starts the agent again.
	if err := os.WriteFile(token, []byte("token\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	enginetest.Eventually(t, "all is sent or set aside", func() bool { return status().Pending == 0 })
	if st, n := status(), streamMessages(t, stream); st.SetAside != 1 || n != 1 {
		t.Errorf("got %d set aside and %d sent, want one of each", st.SetAside, n)
	}
	// The shop may speak for the other one too now.
	shop.Permissions.Publish.Allow = append(shop.Permissions.Publish.Allow, schema.ScanSubject("330106", "P1"))
	if err := srv.ReloadOptions(options); err != nil {
		t.Fatal(err)
	}
	agent.kill()
	if out, err := exec.Command("yaosu", "scanner", "--spool", spool, "--readmit").CombinedOutput(); err != nil || !strings.Contains(string(out), "1 条") {
		t.Fatalf("readmit: got %s and %v", out, err)
	}
	agent.start()
	enginetest.Eventually(t, "the other one is sent", func() bool { return streamMessages(t, stream) == 2 })
	if st := status(); st.SetAside != 0 {
		t.Errorf("got %d set aside, want none", st.SetAside)
	}
}
