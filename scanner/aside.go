package scanner

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
	"unicode/utf8"

	"yaosu/schema"
)

// asideState is what is known of set-aside.ndjson.
type asideState struct {
	entries int
	bytes   int64
}

// asideEntry is one line of it: an event that NATS will not take, or a piece of
// the spool that is no event any more. One of Event and Text and Bytes is there.
type asideEntry struct {
	SetAside time.Time       `json:"set_aside"`
	Reason   string          `json:"reason"`
	Region   string          `json:"region,omitempty"`
	Org      string          `json:"org,omitempty"`
	Refusal  *schema.Refusal `json:"refusal,omitempty"` // of an event that was refused before
	Event    json.RawMessage `json:"event,omitempty"`
	Text     string          `json:"text,omitempty"`  // an event that is no JSON
	Bytes    []byte          `json:"bytes,omitempty"` // of what is no text either, in base64
}

func newAsideEntry(reason string, r record) asideEntry {
	e := asideEntry{SetAside: time.Now(), Reason: reason, Region: r.region, Org: r.org, Refusal: r.refusal}
	switch {
	case json.Valid(r.event):
		e.Event = r.event
	case utf8.Valid(r.event):
		e.Text = string(r.event)
	default:
		e.Bytes = r.event
	}
	return e
}

// event is what was stored; nil for a spoilt piece, which belongs to nobody.
func (e *asideEntry) event() []byte {
	switch {
	case e.Org == "":
		return nil
	case e.Event != nil:
		return e.Event
	case e.Text != "":
		return []byte(e.Text)
	}
	return e.Bytes
}

// setAside writes entries where somebody will look at them. They are durable when
// it returns nil.
func (s *Spool) setAside(entries ...asideEntry) error {
	if len(entries) == 0 {
		return nil
	}
	var lines []byte
	for _, e := range entries {
		line, err := json.Marshal(e)
		if err != nil {
			return fmt.Errorf("set events aside: %w", err)
		}
		lines = append(append(lines, line...), '\n')
	}
	path := filepath.Join(s.cfg.Dir, asideFile)
	before, err := appendLines(path, lines)
	if err != nil {
		return fmt.Errorf("set events aside that NATS will not take: %w", err)
	}
	s.cfg.Log.Warn("events were set aside", "events", len(entries), "reason", entries[0].Reason, "file", path)
	s.mu.Lock()
	defer s.mu.Unlock()
	if before == 0 {
		s.aside.entries = 0 // somebody has taken the file away
	}
	s.aside.entries += len(entries)
	s.aside.bytes = before + int64(len(lines))
	return nil
}

// appendLines appends to a file, makes it durable, and leaves nothing behind when
// it cannot. Lines begin on a line of their own, also behind one that was torn. It
// returns the size of the file before.
func appendLines(path string, lines []byte) (end int64, err error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if end, err = file.Seek(0, io.SeekEnd); err != nil {
		return 0, err
	}
	if end > 0 {
		var last [1]byte
		if _, err := file.ReadAt(last[:], end-1); err != nil {
			return 0, err
		}
		if last[0] != '\n' {
			lines = append([]byte{'\n'}, lines...)
		}
	}
	_, err = file.Write(lines)
	if err == nil {
		err = file.Sync()
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return 0, errors.Join(err, file.Truncate(end))
	}
	return end, nil
}

// eachAside reads the entries in dir. A line that was torn is none.
func eachAside(dir string, do func(line []byte, e *asideEntry) error) error {
	file, err := os.Open(filepath.Join(dir, asideFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	for in := bufio.NewReader(file); ; {
		line, err := in.ReadBytes('\n')
		if len(line) > 1 {
			var e asideEntry
			if json.Unmarshal(line, &e) == nil {
				if err := do(line, &e); err != nil {
					return err
				}
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func loadAside(dir string) (asideState, error) {
	var state asideState
	err := eachAside(dir, func(line []byte, _ *asideEntry) error {
		state.entries++
		state.bytes += int64(len(line))
		return nil
	})
	if err != nil {
		return state, fmt.Errorf("read what was set aside: %w", err)
	}
	return state, nil
}

// Readmit stores again the events that were set aside, for when the reason is gone:
// a credential was mended, NATS takes larger messages. It returns how many. Spoilt
// pieces stay set aside, as nobody can tell what they were. Run must not be running.
func (s *Spool) Readmit(ctx context.Context) (events int, err error) {
	var rest []byte
	err = eachAside(s.cfg.Dir, func(line []byte, e *asideEntry) error {
		event := e.event()
		if event == nil {
			rest = append(rest, line...)
			return nil
		}
		events++
		if e.Refusal != nil {
			return s.StoreRefused(ctx, e.Region, e.Org, event, *e.Refusal)
		}
		return s.Store(ctx, e.Region, e.Org, []json.RawMessage{event})
	})
	if err != nil {
		return 0, fmt.Errorf("store what was set aside: %w", err)
	}
	// If we die here they are in both places, and readmitted once more: the same events.
	if err := replaceFile(s.cfg.Dir, asideFile, rest); err != nil {
		return events, fmt.Errorf("clear what was set aside: %w", err)
	}
	state, err := loadAside(s.cfg.Dir)
	s.mu.Lock()
	s.aside = state
	s.mu.Unlock()
	return events, err
}

// replaceFile writes the file name in dir as a whole or not at all, also when the
// power goes.
func replaceFile(dir, name string, content []byte) error {
	path := filepath.Join(dir, name)
	file, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return errors.Join(err, os.Remove(path+".new"))
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	return syncDir(dir)
}
