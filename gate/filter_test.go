package gate_test

import (
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"yaosu/gate"
)

// oneFilter is a filter with one part of a given name; gate/filter makes real ones, of
// which nobody knows the names before.
type oneFilter struct{ dir, name string }

const partText = "the bytes of a part"

func made(t *testing.T, name string) oneFilter {
	t.Helper()
	f := oneFilter{t.TempDir(), name}
	if err := os.WriteFile(filepath.Join(f.dir, name), []byte(partText), 0o600); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f oneFilter) Manifest() ([]byte, string) {
	return []byte(`{"version":"17","made":"2026-06-01T10:00:00+08:00","as_of":"2026-06-01T09:59:58+08:00","up_to":120,"of":"0123456789abcdef","codes":3,"bytes":19,"layers":[{"bits":8,"parts":[{"part":"` + f.name + `","from":"0000000000000000","codes":3,"bytes":19}]}]}`), "17"
}

func (f oneFilter) Part(name string) (*os.File, error) {
	if name != f.name {
		return nil, fs.ErrNotExist
	}
	return os.Open(filepath.Join(f.dir, name))
}

// noFilter is one that was not made yet.
type noFilter struct{ oneFilter }

func (noFilter) Manifest() ([]byte, string) { return nil, "" }

func TestTheDoorHandsOutAFilter(t *testing.T) {
	const name = "00112233445566aa"
	url := open(t, gate.Config{Filter: made(t, name), Senders: holders{"SHOP": {Name: "shop", Orgs: map[string]string{org: region}}}})
	for _, c := range []struct {
		name, path string
		headers    []string
		status     int
		body       string // empty: any
	}{
		{"a stranger", "/v1/filter", []string{"Authorization", "Bearer NOBODY"}, http.StatusUnauthorized, ""},
		{"nobody", "/v1/filter/" + name, []string{"Authorization", ""}, http.StatusUnauthorized, ""},
		{"the manifest", "/v1/filter", nil, http.StatusOK, ""},
		{"the manifest that one has", "/v1/filter", []string{"If-None-Match", `"17"`}, http.StatusNotModified, ""},
		{"the manifest after another one", "/v1/filter", []string{"If-None-Match", `"16"`}, http.StatusOK, ""},
		{"a part", "/v1/filter/" + name, nil, http.StatusOK, partText},
		{"the rest of a part", "/v1/filter/" + name, []string{"Range", "bytes=4-", "If-Range", `"` + name + `"`}, http.StatusPartialContent, partText[4:]},
		{"the rest of another part", "/v1/filter/" + name, []string{"Range", "bytes=4-", "If-Range", `"99"`}, http.StatusOK, partText},
		{"more than there is", "/v1/filter/" + name, []string{"Range", "bytes=400-"}, http.StatusRequestedRangeNotSatisfiable, ""},
		{"a part of long ago", "/v1/filter/ffffffffffffffff", nil, http.StatusNotFound, ""},
		{"a way out of the directory", "/v1/filter/..%2Fmanifest", nil, http.StatusNotFound, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := get(t, url+c.path, append([]string{"Authorization", "Bearer SHOP"}, c.headers...)...)
			if got.Status != c.status || c.body != "" && got.Body != c.body {
				t.Errorf("got %d %s, want %d %s", got.Status, got.Body, c.status, c.body)
			}
		})
	}
	early := open(t, gate.Config{Filter: noFilter{}})
	if got := get(t, early+"/v1/filter"); got.Status != http.StatusServiceUnavailable || got.Header.Get("Retry-After") == "" {
		t.Errorf("before there is one: got %d %s, want 503 and when to ask again", got.Status, got.Body)
	}
}
