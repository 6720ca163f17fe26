package gate_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"yaosu/gate"
)

// blocks are the blocks of one language of a page, in order.
func blocks(page, language string) (list []string) {
	for _, part := range strings.Split(page, "\n```"+language+"\n")[1:] {
		block, _, _ := strings.Cut(part, "\n```")
		list = append(list, block+"\n")
	}
	return list
}

// What a vendor copies from docs/gate.md must work.
func TestTheExamplesForVendorsWork(t *testing.T) {
	page, err := os.ReadFile("../docs/gate.md")
	if err != nil {
		t.Fatal(err)
	}
	js := streams(t)
	sink := gate.NewJetStreamSink(js)
	url := open(t, gate.Config{Sink: sink, Refused: sink, Check: &answering{}, Senders: holders{
		"TOKEN": {Name: "vendor", Orgs: map[string]string{"P42010600012": "420106"}},
	}})
	env := append(os.Environ(), "YAOSU_URL="+url, "YAOSU_TOKEN=TOKEN")
	var answers []string
	for i, script := range blocks(string(page), "sh") {
		if i == 0 {
			continue // says where the door is, as env does
		}
		cmd := exec.CommandContext(t.Context(), "sh", "-e", "-c", script)
		cmd.Env = env
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v: %s", script, err, out)
		}
		answers = append(answers, string(out))
	}
	wants := []string{`"accepted":1,"duplicate":0,"rejected":0`, `"accepted":2,`, `"decision":"stop"`, `"retRslt":"1"`}
	if len(answers) != len(wants) {
		t.Fatalf("got %d examples, want %d", len(answers), len(wants))
	}
	for i, want := range wants {
		if !strings.Contains(answers[i], want) {
			t.Errorf("example %d is answered %s, want %s", i+1, answers[i], want)
		}
	}
	programs := blocks(string(page), "go")
	if len(programs) != 1 {
		t.Fatalf("got %d programs in Go, want one", len(programs))
	}
	file := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(file, []byte(programs[0]), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "run", file)
	cmd.Env = env
	out, err := cmd.CombinedOutput()
	if want := "rejected R20260601-20 “业务发生时间”(time)的格式不对。\n"; err != nil || string(out) != want {
		t.Errorf("the program in Go: got %q, %v, want %q", out, err, want)
	}
	if got := len(scansOf(published(t, js))); got != 6 {
		t.Errorf("%d events are in the stream, want 6", got)
	}
}
