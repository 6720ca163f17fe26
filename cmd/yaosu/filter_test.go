package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"yaosu/gate"
	"yaosu/internal/enginetest"
)

// metric is what an agent says of itself; 0 when it does not.
func (a *shopAgent) metric(name string) float64 {
	resp, err := http.Get(a.url + "/metrics")
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0
	}
	if m := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindSubmatch(text); m != nil {
		value, _ := strconv.ParseFloat(string(m[1]), 64) // 0 is what it is then
		return value
	}
	return 0
}

// ask asks an agent for boxes.
func (a *shopAgent) ask(org string, codes ...string) (reply gate.CheckReply) {
	a.t.Helper()
	body, err := json.Marshal(gate.CheckRequest{Codes: codes, Org: org, Region: "330106"})
	if err != nil {
		a.t.Fatal(err)
	}
	resp, err := http.Post(a.url+"/v1/check", "application/json", strings.NewReader(string(body)))
	if err != nil {
		a.t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&reply); err != nil {
		a.t.Fatal(err)
	}
	return reply
}

// Shop A settles a box; the agent of shop B learns of it, loses the network, and warns.
func TestAnAgentWithoutNetworkKnowsWhatOthersSettled(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	system := isUp(t, dir, "--filter-every", "100ms")
	road, lane := startStreet(t, system.ends.NATS), startStreet(t, system.ends.HTTP)
	cut := func(cut bool) {
		road.set(cut)
		lane.set(cut)
	}
	tokens := t.TempDir()
	tokenOf := func(name, org string) (path, token string) {
		path = filepath.Join(tokens, name)
		done(t, "org", "add", name, "--org", org+":330106", "--data", dir, "--out", path)
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return path, strings.TrimSpace(string(text))
	}
	_, shopA := tokenOf("shop-a", "PA")
	fileB, _ := tokenOf("shop-b", "PB")
	through := func(s *street, scheme, user string) string {
		u, err := url.Parse(s.url)
		if err != nil {
			t.Fatal(err)
		}
		u.Scheme = scheme
		if user != "" {
			u.User = url.User(user)
		}
		return u.String()
	}
	agent := func() *shopAgent {
		return startAgent(t, through(road, "nats", "shop-b"), filepath.Join(t.TempDir(), "spool"),
			"--credential", fileB, "--gate", through(lane, "http", ""), "--filter-every", "100ms")
	}
	b := agent()

	const settled, sold = "81234560000000000001", "81234560000000000002"
	for id, event := range map[string]string{
		"e1": `"codes":["` + settled + `"],"settlement":"S1","pay":"insured"`,
		"e2": `"codes":["` + sold + `"],"pay":"self"`,
	} {
		line := fmt.Sprintf(`{"event_id":%q,"kind":"sale","time":%q,"org":"PA","region":"330106",%s}`, id, time.Now().Format(time.RFC3339), event)
		req, err := http.NewRequestWithContext(t.Context(), "POST", system.ends.HTTP+"/v1/scans", strings.NewReader(line))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer "+shopA)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("the sale: got status %d", resp.StatusCode)
		}
	}
	enginetest.Eventually(t, "the agent has the box in its filter", func() bool { return b.metric("yaosu_scanner_filter_codes") >= 1 })
	if got := b.ask("PB", settled); got.Decision != gate.Stop || got.Degraded {
		t.Errorf("with network: got %+v, want the answer from upstream", got)
	}

	cut(true)
	// One in 256 of those that were never settled is found all the same.
	never := []string{sold} // for cash
	for i := range 20 {
		never = append(never, fmt.Sprintf("8123456%013d", 1000+i))
	}
	rule := func(c gate.CodeReply) string {
		var list []string
		for _, r := range c.Reasons {
			list = append(list, r.Rule)
		}
		return strings.Join(list, " ")
	}
	knows := func(when string, b *shopAgent) {
		t.Helper()
		enginetest.Eventually(t, "it answers by itself, "+when, func() bool { return b.ask("PB", settled).Degraded })
		reply := b.ask("PB", append([]string{settled}, never...)...)
		if reply.Decision != gate.Warn || !reply.Degraded {
			t.Errorf("%s: got %s, degraded %t; want a degraded warning", when, reply.Decision, reply.Degraded)
		}
		if c := reply.Codes[0]; rule(c) != "perhaps_settled offline" || !strings.Contains(c.Reasons[0].Text, "可能在") || c.Last != nil {
			t.Errorf("%s: a box settled at another shop: got %+v", when, c)
		}
		absent := 0
		for _, c := range reply.Codes[1:] {
			if c.Decision != gate.Warn {
				t.Errorf("%s: a box never settled: got %+v, want a warning", when, c)
			}
			if rule(c) == "not_settled_then offline" && strings.Contains(c.Reasons[0].Text, "没有此码") && strings.Contains(c.Reasons[0].Text, "截至 20") {
				absent++
			}
		}
		if absent < 17 {
			t.Errorf("%s: got %d of %d boxes never settled answered as such, want nearly all; %+v", when, absent, len(never), reply.Codes[1])
		}
	}
	knows("cut off", b)
	b.kill()
	b.start()
	knows("started without network", b)

	// One that never had a network knows nothing of others.
	newborn := agent()
	enginetest.Eventually(t, "a new one answers", func() bool { return len(newborn.ask("PB", settled).Codes) == 1 })
	if got := rule(newborn.ask("PB", settled).Codes[0]); got != "offline" {
		t.Errorf("a new agent without network: got %s, want offline", got)
	}
	newborn.kill()

	// A revoked credential fetches no more; what is there stays.
	done(t, "org", "revoke", "shop-b", "--data", dir)
	cut(false)
	enginetest.Eventually(t, "it says that the credential is refused", func() bool {
		return strings.Contains(b.said.String(), "the gate refuses the credential")
	})
	knows("with a revoked credential", b)
	system.stop()
}
