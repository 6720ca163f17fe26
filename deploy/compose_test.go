package deploy_test

import (
	"bytes"
	"debug/elf"
	"encoding/json"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// composeFile is what of the Compose format our file uses: anything else in it is
// an error here, as it may be a slip of the pen.
type composeFile struct {
	Name     string
	Yaosu    map[string]any `yaml:"x-yaosu"`
	Services map[string]composeService
	Volumes  map[string]struct{}
	Secrets  map[string]struct{ File string }
}

type composeService struct {
	Image       string
	Build       struct{ Context, Dockerfile string }
	Command     []string
	Environment map[string]string
	Volumes     []string
	Ports       []string
	Secrets     []string
	DependsOn   map[string]struct{ Condition string } `yaml:"depends_on"`
	Healthcheck struct {
		Test              []string
		Interval, Timeout string
		Retries           int
	}
	Ulimits     map[string]struct{ Soft, Hard int }
	Restart     string
	StopGrace   string   `yaml:"stop_grace_period"`
	ReadOnly    bool     `yaml:"read_only"`
	CapDrop     []string `yaml:"cap_drop"`
	SecurityOpt []string `yaml:"security_opt"`
}

const composeDir = "compose"

func readCompose(t *testing.T) composeFile {
	t.Helper()
	var file composeFile
	d := yaml.NewDecoder(strings.NewReader(read(t, filepath.Join(composeDir, "compose.yaml"))))
	d.KnownFields(true)
	if err := d.Decode(&file); err != nil {
		t.Fatal(err)
	}
	return file
}

// makeSecrets runs make-secrets.sh in a directory of its own and returns what .env
// says, and the person key's file.
func makeSecrets(t *testing.T) (env map[string]string, key string) {
	t.Helper()
	dir := t.TempDir()
	script := filepath.Join(dir, "make-secrets.sh")
	if err := os.WriteFile(script, []byte(read(t, filepath.Join(composeDir, "make-secrets.sh"))), 0o700); err != nil {
		t.Fatal(err)
	}
	var before string
	// The second run must leave everything as it is.
	for i := range 2 {
		if out, err := exec.Command("sh", script).CombinedOutput(); err != nil {
			t.Fatalf("make-secrets.sh: %v\n%s", err, out)
		}
		now := read(t, filepath.Join(dir, ".env")) + read(t, filepath.Join(dir, "secrets", "person.key"))
		if i > 0 && now != before {
			t.Error("make-secrets.sh changed the secrets of its first run")
		}
		before = now
	}
	env = map[string]string{}
	for line := range strings.Lines(read(t, filepath.Join(dir, ".env"))) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		env[name] = value
	}
	return env, filepath.Join(dir, "secrets", "person.key")
}

var variable = regexp.MustCompile(`\$\{([A-Z0-9_]+)(:\?[^}]*)?\}`)

// interpolate does what Compose does with ${NAME} and ${NAME:?message}.
func interpolate(t *testing.T, text string, env map[string]string) string {
	t.Helper()
	return variable.ReplaceAllStringFunc(text, func(v string) string {
		value := env[variable.FindStringSubmatch(v)[1]]
		if value == "" {
			t.Errorf("%s has no value in .env", v)
		}
		return value
	})
}

func TestComposeNamesOnlyWhatThereIs(t *testing.T) {
	file := readCompose(t)
	for _, name := range slices.Sorted(maps.Keys(file.Services)) {
		t.Run(name, func(t *testing.T) {
			service := file.Services[name]
			if !regexp.MustCompile(`:[\w.-]+$`).MatchString(service.Image) || strings.HasSuffix(service.Image, ":latest") {
				t.Errorf("image %q has no version", service.Image)
			}
			for on, when := range service.DependsOn {
				other, ok := file.Services[on]
				switch {
				case !ok:
					t.Errorf("depends on %s, which is no service", on)
				case when.Condition == "service_healthy" && len(other.Healthcheck.Test) == 0:
					t.Errorf("waits for %s to be healthy, which has no health check", on)
				case when.Condition == "service_completed_successfully" && other.Restart != "on-failure":
					t.Errorf("waits for %s to end, which is started again: restart %q", on, other.Restart)
				}
			}
			for _, volume := range service.Volumes {
				from, _, _ := strings.Cut(volume, ":")
				if _, named := file.Volumes[from]; named {
					continue
				}
				if info, err := os.Stat(filepath.Join(composeDir, from)); err != nil || info.IsDir() {
					t.Errorf("volume %s: %v, want a file or a named volume", volume, err)
				}
			}
			for _, secret := range service.Secrets {
				if _, ok := file.Secrets[secret]; !ok {
					t.Errorf("secret %s is not among the secrets", secret)
				}
				if path := "/run/secrets/" + secret; !slices.Contains(service.Command, path) {
					t.Errorf("command %q does not use %s", service.Command, path)
				}
			}
			for _, port := range service.Ports {
				if !strings.HasPrefix(port, "127.0.0.1:") {
					t.Errorf("port %s is open to the network", port)
				}
			}
			if service.Build.Context == "" {
				return
			}
			if _, err := os.Stat(filepath.Join(composeDir, service.Build.Context, service.Build.Dockerfile)); err != nil {
				t.Error(err)
			}
			checkCommand(t, service.Command, service.Environment)
		})
	}
}

func TestTheDockerfileBuildsWhatIsThere(t *testing.T) {
	text := read(t, filepath.Join(composeDir, "Dockerfile"))
	version := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(read(t, "../go.mod"))
	if version == nil || !strings.Contains(text, "FROM golang:"+version[1]+" AS build") {
		t.Errorf("the image builds with another Go than go.mod says, %v", version)
	}
	for _, want := range []string{"./cmd/yaosu\n", "COPY go.mod go.sum ./\n", `ENTRYPOINT ["/yaosu"]`, "ENV CGO_ENABLED=0"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in it", want)
		}
	}
	// What opens the embedded engine needs the system's loader, also without cgo.
	bin, err := build()
	if err != nil {
		t.Fatal(err)
	}
	program, err := elf.Open(bin)
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	needsLoader := slices.ContainsFunc(program.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP })
	if needsLoader && strings.Contains(text, "FROM scratch") {
		t.Error("the program needs a loader and would not start in an image without one")
	}
}

// The commands of the Compose file, with its environment and the passwords of
// make-secrets.sh, against servers with the configuration it mounts.
func TestTheCommandsOfComposeMoveAScanFromNATSToASuspect(t *testing.T) {
	env, key := makeSecrets(t)
	for name, value := range env {
		t.Setenv(name, value) // for the servers
	}
	file := readCompose(t)
	clickhouse := startServers(t, 1)[0].NativeDSN()
	clickhouse = strings.TrimSuffix(strings.TrimPrefix(clickhouse, "clickhouse://"), "/yaosu")
	broker := startNATS(t, natsConf)
	natsAddr := broker.Addr().String()
	here := func(text string) string {
		return strings.NewReplacer("clickhouse:9000", clickhouse, "nats:4222", natsAddr, "/run/secrets/person.key", key).
			Replace(interpolate(t, text, env))
	}
	envOf := func(service string) []string {
		var list []string
		for name, value := range file.Services[service].Environment {
			list = append(list, name+"="+here(value))
		}
		return list
	}

	if out, errs, err := run(t, envOf("schema"), file.Services["schema"].Command...); err != nil {
		t.Fatalf("schema: %v: %s%s", err, out, errs)
	}

	var command []string
	for _, arg := range file.Services["ingest"].Command {
		command = append(command, here(arg))
	}
	ingest := yaosu(t, envOf("ingest"), command...)
	var log bytes.Buffer
	ingest.Stderr = &log
	if err := ingest.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1) // the test may fail before it looks
	go func() { ended <- ingest.Wait() }()

	const code = "81234560000000000017"
	events := filepath.Join(t.TempDir(), "events.ndjson")
	var lines bytes.Buffer
	for i, org := range []string{"P53090200417", "P53090200418"} {
		line, err := json.Marshal(map[string]any{
			"event_id": "e1", "kind": "sale", "time": time.Now().AddDate(0, 0, -20+10*i).Format(time.RFC3339),
			"org": org, "region": "530902", "codes": []string{code}, "settlement": "s1", "person": "530902199001010018",
		})
		if err != nil {
			t.Fatal(err)
		}
		lines.Write(append(line, '\n'))
	}
	if err := os.WriteFile(events, lines.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	// The ingester makes the streams.
	deadline := time.Now().Add(20 * time.Second)
	for {
		_, errs, err := run(t, envOf("ingest"), "publish", "--wait", "--wait-timeout", "20s", events)
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("publish: %v: %s\ningest: %s", err, errs, log.String())
		}
		select {
		case err := <-ended:
			t.Fatalf("ingest: %v: %s", err, log.String())
		case <-time.After(100 * time.Millisecond):
		}
	}

	// The two questions after lag that the run-book names.
	status, errs, err := run(t, envOf("ingest"), "ingest", "--status")
	if err != nil || !strings.Contains(status, "waiting 0\n") {
		t.Errorf("how far the ingester is: got %s, %v: %s", status, err, errs)
	}
	var lag int64
	err = open(t, "clickhouse://yaosu_analyst:"+env["CLICKHOUSE_ANALYST_PASSWORD"]+"@"+clickhouse+"/yaosu").
		QueryRow(t.Context(), "SELECT dateDiff('second', max(received), now()) FROM scans").Scan(&lag)
	if err != nil || lag < 0 || lag > 60 {
		t.Errorf("seconds since the last scan: got %d, %v", lag, err)
	}

	if _, errs, err := run(t, envOf("detect"), append(slices.Clone(file.Services["detect"].Command), "--once")...); err != nil {
		t.Fatalf("detect: %v: %s", err, errs)
	}

	askTheGate(t, envOf("gate"), file.Services["gate"].Command, here)

	asUser := func(role string) []string {
		password := env["CLICKHOUSE_"+strings.ToUpper(role)+"_PASSWORD"]
		return []string{"YAOSU_CLICKHOUSE=clickhouse://yaosu_" + role + ":" + password + "@" + clickhouse + "/yaosu"}
	}
	for _, c := range []struct {
		role string
		args []string
		want string // in what it prints; empty when it must be refused
	}{
		{"analyst", []string{"suspects", "--format", "ndjson"}, "resold_code"},
		{"analyst", []string{"trace", code}, "P53090200418"},
		{"analyst", []string{"rejects"}, "没有拒收记录"},
		{"analyst", []string{"suspects", "--format", "ndjson", "--resolve"}, ""},
		{"officer", []string{"suspects", "--format", "ndjson", "--resolve"}, "530902199001010018"},
	} {
		out, errs, err := run(t, asUser(c.role), c.args...)
		switch {
		case c.want == "" && (err == nil || strings.Contains(out, "530902199001010018")):
			t.Errorf("yaosu %s as %s: got %q, want a refusal", strings.Join(c.args, " "), c.role, out)
		case c.want != "" && (err != nil || !strings.Contains(out+errs, c.want)):
			t.Errorf("yaosu %s as %s: got %q, %v, %s, want %q in it", strings.Join(c.args, " "), c.role, out, err, errs, c.want)
		}
	}
	if err := ingest.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("ingest after SIGTERM: got %v, want exit status 0\n%s", err, log.String())
	}
}

// askTheGate runs the gate as Compose does, but for its port and directory: it is
// ready, and as it listens to other machines it lets nobody in without a credential.
func askTheGate(t *testing.T, env, command []string, here func(string) string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	var args []string
	for _, arg := range command {
		arg = strings.NewReplacer(":8686", ":"+port, "/var/lib/yaosu-gate", t.TempDir()).Replace(here(arg))
		args = append(args, arg)
	}
	gate := yaosu(t, env, args...)
	var log bytes.Buffer
	gate.Stderr = &log
	if err := gate.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1) // the test may fail before it looks
	go func() { ended <- gate.Wait() }()
	url := "http://127.0.0.1:" + port
	deadline := time.Now().Add(20 * time.Second)
	for {
		resp, err := http.Get(url + "/readyz")
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				break
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("the gate is not ready: %v\n%s", err, log.String())
		}
		select {
		case err := <-ended:
			t.Fatalf("gate: %v: %s", err, log.String())
		case <-time.After(100 * time.Millisecond):
		}
	}
	resp, err := http.Post(url+"/v1/scans", "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("without a credential: got %d, want 401", resp.StatusCode)
	}
	file := filepath.Join(t.TempDir(), "token")
	if out, err := yaosu(t, env, "org", "add", "monitor", "--reads", "--out", file).CombinedOutput(); err != nil {
		t.Fatalf("org add in the container of the gate: %v: %s", err, out)
	}
	token, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), "GET", url+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	for metrics := ""; !strings.Contains(metrics, "\nyaosu_check_ready 1\n"); {
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if metrics = string(body); err != nil || time.Now().After(deadline) {
			t.Fatalf("/metrics: got %d, %v, %.500s, want that the check is ready", resp.StatusCode, err, metrics)
		}
	}
	if err := gate.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("gate after SIGTERM: got %v, want exit status 0\n%s", err, log.String())
	}
	if strings.Contains(log.String(), "level=ERROR") {
		t.Errorf("the gate logged errors:\n%s", log.String())
	}
}
