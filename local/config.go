package local

import (
	"bytes"
	_ "embed"
	"encoding/xml"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"text/template"
)

//go:embed engine.xml.tmpl
var engineXML string

//go:embed users.xml.tmpl
var usersXML string

func (e *Engine) configFile() string { return filepath.Join(e.cfg.Dir, "engine.xml") }

// writeConfig writes the engine's configuration. It is written at every start:
// the ports may differ from the last time.
func (e *Engine) writeConfig() error {
	values := map[string]any{
		"Name":         e.name,
		"Data":         filepath.Join(e.cfg.Dir, "clickhouse"),
		"Users":        filepath.Join(e.cfg.Dir, "users.xml"),
		"Log":          filepath.Join(e.cfg.Dir, "engine.log"),
		"NativePort":   e.cfg.NativePort,
		"HTTPPort":     e.cfg.HTTPPort,
		"MemoryLimit":  e.cfg.MemoryLimit,
		"MarkCache":    min(128<<20, e.cfg.MemoryLimit/16),
		"MergeThreads": max(4, runtime.NumCPU()),
	}
	for name, text := range map[string]string{"engine.xml": engineXML, "users.xml": usersXML} {
		b, err := render(name, text, values)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(e.cfg.Dir, name), b, 0o640); err != nil {
			return err
		}
		// The engine lays NAME.d/*.xml over NAME.xml, and keeps to itself what does
		// not concern that file; so both get all of it.
		if err := writeExtra(filepath.Join(e.cfg.Dir, strings.TrimSuffix(name, ".xml")+".d"), e.cfg.ExtraConfig); err != nil {
			return err
		}
	}
	return nil
}

func writeExtra(dir, extra string) error {
	path := filepath.Join(dir, "extra.xml")
	if extra == "" {
		// One from an earlier start must not linger.
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			return err
		}
		return nil
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	return os.WriteFile(path, []byte("<clickhouse>\n"+extra+"\n</clickhouse>\n"), 0o640)
}

func render(name, text string, values any) ([]byte, error) {
	t, err := template.New(name).Funcs(template.FuncMap{"xml": escapeXML}).Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	var b bytes.Buffer
	if err := t.Execute(&b, values); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return b.Bytes(), nil
}

func escapeXML(s string) (string, error) {
	var b strings.Builder
	err := xml.EscapeText(&b, []byte(s))
	return b.String(), err
}

// defaultMemoryLimit is 4 GiB or 40 % of the machine, whichever is less.
func defaultMemoryLimit() int64 {
	const most = 4 << 30
	if total := machineMemory(); total < math.MaxInt64 {
		return min(most, total/5*2)
	}
	return most
}

// machineMemory is what this process may use at most, in bytes: the machine's
// memory or its container's limit. MaxInt64 when the system does not tell.
func machineMemory() int64 {
	least := int64(math.MaxInt64)
	if b, err := os.ReadFile("/proc/meminfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); len(f) == 3 && f[0] == "MemTotal:" {
				if kb, err := strconv.ParseInt(f[1], 10, 64); err == nil {
					least = min(least, kb<<10)
				}
			}
		}
	}
	for _, path := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		if b, err := os.ReadFile(path); err == nil {
			if n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64); err == nil && n > 0 {
				least = min(least, n)
			}
		}
	}
	return least
}
