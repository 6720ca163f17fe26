package main

import (
	"bytes"
	"errors"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"yaosu/internal/enginetest"
)

// tool runs a verb and returns what it printed, and its exit status.
func tool(t *testing.T, args ...string) (out string, status int) {
	t.Helper()
	cmd := exec.Command("yaosu", args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	t.Logf("yaosu %s: %v\n%s%s", strings.Join(args, " "), err, &stdout, &stderr)
	return stdout.String() + stderr.String(), cmd.ProcessState.ExitCode()
}

// done runs a verb that must succeed.
func done(t *testing.T, args ...string) string {
	t.Helper()
	out, status := tool(t, args...)
	if status != exitDone {
		t.Fatalf("yaosu %s: got exit status %d, want %d", strings.Join(args, " "), status, exitDone)
	}
	return out
}

// tokenIn finds a token in what org add printed.
var tokenIn = regexp.MustCompile(`yaosu_[A-Z2-7]{26}`)

func TestUpIsOpenToThisMachineUntilTheFirstCredential(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	system := isUp(t, dir)
	system.sell("before") // without a credential
	nobody, err := nats.Connect(system.ends.NATS)
	if err != nil {
		t.Fatal(err)
	}
	defer nobody.Close()

	file := filepath.Join(t.TempDir(), "shop.token")
	printed := done(t, "org", "add", "shop", "--org", "P01:330106", "--data", dir, "--out", file)
	if tokenIn.MatchString(printed) {
		t.Errorf("the token is printed though it is written to a file:\n%s", printed)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file of the token: got %v, %v, want mode 0600", info.Mode(), err)
	}
	shop := strings.TrimSpace(string(text))
	vendor := tokenIn.FindString(done(t, "org", "add", "vendor", "--data", dir, "--org", "P02:330106", "--org", "H03:420106"))
	if !tokenIn.MatchString(shop) || vendor == "" {
		t.Fatalf("got tokens %q and %q, want two", shop, vendor)
	}

	// Nobody else comes in, and our own tools go on.
	enginetest.Eventually(t, "who came without a credential is out", func() bool { return !nobody.IsConnected() })
	plain := system.ends.NATS
	if _, err := nats.Connect(plain); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("without a credential: got %v, want %v", err, nats.ErrAuthorization)
	}
	enginetest.Eventually(t, "endpoints.json has the credential of our own", func() bool {
		ends, err := readEndpoints(dir)
		return err == nil && ends.NATS != plain
	})
	if got := done(t, "org", "list", "--data", dir); !strings.Contains(got, "P01(330106)") || !strings.Contains(got, "2 个凭证") || strings.Contains(got, shop) {
		t.Errorf("org list: got\n%s", got)
	}
	events := filepath.Join(t.TempDir(), "events.ndjson")
	write := func(org, region string) {
		t.Helper()
		line := `{"event_id":"after-` + org + region + `","kind":"sale","time":"2026-03-02T10:00:00+08:00","org":"` + org + `","region":"` + region + `","codes":["81234560000000000002"]}` + "\n"
		if err := os.WriteFile(events, []byte(line), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("P09", "330106")
	done(t, "publish", "--data", dir, "--wait", events)

	// A sender publishes with the same tool, for its own.
	as := func(name, token string) string {
		u, err := url.Parse(plain)
		if err != nil {
			t.Fatal(err)
		}
		u.User = url.UserPassword(name, token)
		return u.String()
	}
	write("P01", "330106")
	done(t, "publish", "--nats", as("shop", shop), events)
	write("H03", "420106")
	done(t, "publish", "--nats", as("vendor", vendor), events)

	// It asks before a sale, for its own, over both ways.
	ask := func(org string, how ...string) int {
		_, status := tool(t, append([]string{"check", "81234560000000000002", "--org", org, "--region", "330106"}, how...)...)
		return status
	}
	overHTTP := []string{"--http", system.ends.HTTP, "--token-file", file}
	for _, c := range []struct {
		name string
		how  []string
	}{{"NATS", []string{"--nats", as("shop", shop)}}, {"HTTP", overHTTP}} {
		if got := ask("P01", c.how...); got != exitDone {
			t.Errorf("check for its own over %s: got exit status %d, want %d", c.name, got, exitDone)
		}
		if got := ask("P02", c.how...); got != exitFailed {
			t.Errorf("check for another over %s: got exit status %d, want %d", c.name, got, exitFailed)
		}
	}
	if got := ask("P01", "--http", system.ends.HTTP); got != exitFailed {
		t.Errorf("check over HTTP without a credential: got exit status %d, want %d", got, exitFailed)
	}

	// What it hides inside a message is refused and recorded.
	nc, err := nats.Connect(as("shop", shop), nats.CustomInboxPrefix("_INBOX_shop"))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	hidden := `{"event_id":"hidden","kind":"sale","time":"2026-03-02T10:00:00+08:00","org":"P02","region":"330106","codes":["81234560000000000003"]}`
	if _, err := nc.Request("scan.v1.330106.P01", []byte(hidden), patience); err != nil {
		t.Fatal(err)
	}
	enginetest.Eventually(t, "the event of another is among the rejects", func() bool {
		out, _ := tool(t, "rejects", "--data", dir, "--format", "ndjson")
		return strings.Contains(out, "foreign_org") && strings.Contains(out, "hidden")
	})
	if got := system.sold(system.ends.ClickHouse); got != 4 {
		t.Errorf("got %d sales, want the 4 of those who may", got)
	}

	if out, status := tool(t, "org", "add", "shop", "--data", dir, "--org", "P01:330106", "--out", file); status != exitFailed || !strings.Contains(out, "exists") {
		t.Errorf("a file that is there: got exit status %d and %q, want %d", status, out, exitFailed)
	}
	if out := done(t, "org", "revoke", "shop", "--data", dir); !strings.Contains(out, "吊销") {
		t.Errorf("org revoke: got %q", out)
	}
	enginetest.Eventually(t, "the revoked shop is out", func() bool { return !nc.IsConnected() })
	if got := ask("P01", overHTTP...); got != exitFailed {
		t.Errorf("check over HTTP with a revoked credential: got exit status %d, want %d", got, exitFailed)
	}
	if out, status := tool(t, "org", "revoke", "nobody", "--data", dir); status != exitFailed || !strings.Contains(out, "org list") {
		t.Errorf("revoke what is not there: got exit status %d and %q", status, out)
	}
	system.stop()

	// What was shut stays shut, for all revoked too.
	done2 := isUp(t, dir)
	if u, err := url.Parse(done2.ends.NATS); err != nil || u.User == nil {
		t.Errorf("after a restart endpoints.json has %v, want our own credential in it", err)
	}
	if strings.Contains(done2.out.String(), done2.ends.NATS) {
		t.Error("the credential of our own parts is printed")
	}
	if _, err := nats.Connect(plain); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("after a restart, without a credential: got %v, want %v", err, nats.ErrAuthorization)
	}
	done2.stop()

	// Opened by hand.
	third := isUp(t, dir, "--senders", "open", "--http", "0.0.0.0:0")
	if nc, err := nats.Connect(plain); err != nil {
		t.Errorf("with --senders open: %v", err)
	} else {
		nc.Close()
	}
	for _, path := range []string{"/readyz", "/metrics"} {
		if got := third.get(path); got != http.StatusOK {
			t.Errorf("%s of an open door that other machines reach: got %d, want 200", path, got)
		}
	}
	third.stop()

	// By itself such a door is shut, credentials or none.
	third = isUp(t, filepath.Join(t.TempDir(), "data"), "--http", "0.0.0.0:0")
	if got := third.get("/metrics"); got != http.StatusUnauthorized {
		t.Errorf("/metrics of a door that other machines reach: got %d, want 401", got)
	}
	third.stop()
}
