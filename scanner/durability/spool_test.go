package durability_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"

	"yaosu/scanner"
)

const alone = messages / 2 // stored one by one; all others at once

// spool stores marks and says of each when it is stored, on standard output; then
// it waits for the end of standard input.
func spool(string) error {
	s, err := scanner.Open(scanner.SpoolConfig{Dir: "spool"})
	if err != nil {
		return err
	}
	store := func(n int) error {
		event := json.RawMessage(`{"event_id":"` + mark(n) + `"}`)
		if err := s.Store(context.Background(), "330106", "P1", []json.RawMessage{event}); err != nil {
			return err
		}
		_, err := fmt.Println("stored " + mark(n)) // one write
		return err
	}
	for n := 1; n <= alone; n++ {
		if err := store(n); err != nil {
			return err
		}
	}
	// Under strace a sync is over before a thread of one's own has begun.
	runtime.GOMAXPROCS(8)
	failed := make(chan error, messages) // nobody reads before all have ended
	var all sync.WaitGroup
	for n := alone + 1; n <= messages; n++ {
		all.Go(func() { failed <- store(n) })
	}
	all.Wait()
	for range messages - alone {
		if err := <-failed; err != nil {
			return err
		}
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	return s.Close()
}

func TestTheDiskConfirmsBeforeTheSpoolAnswers(t *testing.T) {
	calls := tracedChild(t, "spool:", func(string) {})
	got := examined{written: map[int]call{}}
	names := 0 // syncs of the directory before anything was answered
	for _, c := range calls {
		sync := c.name == "fsync" || c.name == "fdatasync"
		marks := ofMark.FindAllStringSubmatch(c.text, -1)
		switch {
		case sync && strings.HasSuffix(c.file, "/spool") && len(got.acks) == 0:
			names++
		case sync && strings.HasSuffix(c.file, ".spool"):
			got.confirm = append(got.confirm, c)
		case strings.HasSuffix(c.file, ".spool"):
			for _, m := range marks {
				got.written[number(m[1])] = c
			}
		case strings.Contains(c.text, "stored "):
			for _, m := range marks {
				got.acks = append(got.acks, ack{first: number(m[1]), last: number(m[1]), sent: c})
			}
		}
	}
	if len(got.written) != messages || len(got.acks) != messages {
		t.Fatalf("got %d events written and %d answered, want %d", len(got.written), len(got.acks), messages)
	}
	if early := got.early(); len(early) > 0 {
		t.Errorf("answered before the disk confirmed: got events %v, want none", early)
	}
	if names == 0 {
		t.Error("the name of the segment was not synced before the first answer")
	}
	if n := len(got.confirm); n < alone || n > alone+(messages-alone)/2 {
		t.Errorf("got %d syncs, want one for each of %d that came alone and far fewer for %d that came together", n, alone, messages-alone)
	}
	t.Logf("%d events alone and %d at once: %d syncs", alone, messages-alone, len(got.confirm))
}
