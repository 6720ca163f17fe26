package gate

import (
	"bytes"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"time"
)

// Filter hands out a filter of what is settled, for agents without network: package
// gate/filter makes it. Safe for concurrent use.
type Filter interface {
	// Manifest is the JSON that names the parts, and its version; nil before there is
	// one. Nobody changes it.
	Manifest() (text []byte, version string)

	// Part opens a part that this manifest names, or the one before. The error for any
	// other is fs.ErrNotExist.
	Part(name string) (*os.File, error)
}

// filterManifest is GET /v1/filter.
func (d *door) filterManifest(c *call) error {
	text, version := d.Filter.Manifest()
	if text == nil {
		return &problem{code: problemAway, detail: "清单尚未生成,请稍后再取。", retry: time.Minute}
	}
	header := c.w.Header()
	header.Set("Content-Type", "application/json; charset=utf-8")
	header.Set("Cache-Control", "private, no-cache")
	header.Set("ETag", `"`+version+`"`)
	http.ServeContent(&statusWriter{c.w, c}, c.r, "", time.Time{}, bytes.NewReader(text))
	return nil
}

// filterPart is GET /v1/filter/{part}. It takes no place among the busy: sending a file
// is little work, and waiting for a slow client none.
func (d *door) filterPart(c *call) error {
	name := c.r.PathValue("part")
	file, err := d.Filter.Part(name)
	if errors.Is(err, fs.ErrNotExist) {
		return problemf(problemNotFound, "没有此分片:已有新版本,请重新获取 /v1/filter。")
	}
	if err != nil {
		return err
	}
	defer file.Close()
	header := c.w.Header()
	header.Set("Content-Type", "application/octet-stream")
	header.Set("Cache-Control", "private, max-age=604800, immutable") // its name is its checksum
	header.Set("ETag", `"`+name+`"`)
	http.ServeContent(&statusWriter{c.w, c}, c.r, "", time.Time{}, file)
	return nil
}

// statusWriter notes the status of an answer that others write.
type statusWriter struct {
	http.ResponseWriter
	c *call
}

func (w *statusWriter) WriteHeader(status int) {
	w.c.status = status
	w.ResponseWriter.WriteHeader(status)
}
