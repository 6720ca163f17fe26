package durability_test

import (
	"cmp"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// call is a system call. It began and ended at these lines of the trace.
type call struct {
	name, file, text string
	begin, end       int
}

var (
	lineBegin   = regexp.MustCompile(`^(\d+) +(\w+)\((.*)$`)
	lineResumed = regexp.MustCompile(`^(\d+) +<\.\.\. \w+ resumed>(.*)$`)
	ofFile      = regexp.MustCompile(`^\d+<([^>]*)>`)
	ofPiece     = regexp.MustCompile(`"((?:[^"\\]|\\.)*)"`)
	ofMark      = regexp.MustCompile(`box-(\d{6})\.`)
	ofAck       = regexp.MustCompile(`\\"stream\\":\\"SCANS\\", ?\\"seq\\":(\d+)(?:,\\"batch\\":\\"\w*\\",\\"count\\":(\d+))?`)
)

const unfinished = " <unfinished ...>"

// parse reads what strace -f -y wrote. A call during which another thread made
// one stands in two lines.
func parse(trace string) (calls []call) {
	open := map[string]call{} // by thread
	number := 0
	for line := range strings.Lines(trace) {
		line = strings.TrimSuffix(line, "\n")
		number++
		if m := lineResumed.FindStringSubmatch(line); m != nil {
			c := open[m[1]]
			delete(open, m[1])
			c.text += m[2]
			c.end = number
			calls = append(calls, c)
			continue
		}
		m := lineBegin.FindStringSubmatch(line)
		if m == nil {
			continue // a signal, an exit
		}
		c := call{name: m[2], begin: number, end: number}
		rest, cut := strings.CutSuffix(m[3], unfinished)
		c.text = rest
		if file := ofFile.FindStringSubmatch(rest); file != nil {
			c.file = file[1]
		}
		if cut {
			open[m[1]] = c
			continue
		}
		calls = append(calls, c)
	}
	slices.SortStableFunc(calls, func(a, b call) int { return cmp.Compare(a.begin, b.begin) })
	return calls
}

// examined is what a trace says of the stream SCANS.
type examined struct {
	written map[int]call // the write of each message to a block
	confirm []call       // syncs of blocks, from the first write to the last acknowledgement
	acks    []ack
	syncs   int
	staging int // syncs of batches that are not committed yet
}

// ack says that the messages first to last are safe.
type ack struct {
	first, last int
	sent        call
}

func examine(calls []call) examined {
	e := examined{written: map[int]call{}}
	type socket struct {
		text  string
		calls []call
		ends  []int // of the text of each call
	}
	sent := map[string]socket{}
	for _, c := range calls {
		block := strings.Contains(c.file, "/streams/SCANS/msgs/") && strings.HasSuffix(c.file, ".blk")
		sync := c.name == "fsync" || c.name == "fdatasync"
		switch {
		case sync && block && len(e.written) > 0:
			e.confirm = append(e.confirm, c)
		case sync && strings.Contains(c.file, "/streams/SCANS/batches/"):
			e.staging++
		case block:
			for _, m := range ofMark.FindAllStringSubmatch(c.text, -1) {
				e.written[number(m[1])] = c
			}
		case strings.HasPrefix(c.file, "socket:") || strings.HasPrefix(c.file, "TCP"):
			// An acknowledgement may be cut over pieces of a write, and over writes.
			s := sent[c.file]
			for _, m := range ofPiece.FindAllStringSubmatch(c.text, -1) {
				s.text += m[1]
			}
			s.calls, s.ends = append(s.calls, c), append(s.ends, len(s.text))
			sent[c.file] = s
		}
	}
	for _, s := range sent {
		for _, at := range ofAck.FindAllStringSubmatchIndex(s.text, -1) {
			count := 1
			if at[4] >= 0 {
				count = number(s.text[at[4]:at[5]])
			}
			last := number(s.text[at[2]:at[3]])
			e.acks = append(e.acks, ack{first: last - count + 1, last: last, sent: s.calls[slices.IndexFunc(s.ends, func(end int) bool { return end > at[0] })]})
		}
	}
	slices.SortFunc(e.acks, func(a, b ack) int { return cmp.Compare(a.sent.begin, b.sent.begin) })
	// The server syncs once more when it ends.
	for _, c := range e.confirm {
		if len(e.acks) > 0 && c.begin < e.acks[len(e.acks)-1].sent.begin {
			e.syncs++
		}
	}
	return e
}

// early returns the messages that were acknowledged though no sync of their block
// began after they were written and ended before the acknowledgement went out.
func (e examined) early() (early []int) {
	for _, a := range e.acks {
		for n := a.first; n <= a.last; n++ {
			w, written := e.written[n]
			if !written || !slices.ContainsFunc(e.confirm, func(s call) bool {
				return s.file == w.file && s.begin > w.end && s.end < a.sent.begin && strings.HasSuffix(s.text, "= 0")
			}) {
				early = append(early, n)
			}
		}
	}
	return early
}

// number is 0 for what is not there.
func number(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}

func TestATraceIsJudged(t *testing.T) {
	const (
		block   = `11</data/streams/SCANS/msgs/1.blk>`
		socket  = `9<socket:[85]>`
		write   = `pwrite64(` + block + `, "\0box-000001.\0", 58, 0) = 58`
		sync    = `fsync(` + block + `) = 0`
		ackText = `[{iov_base="MSG _INBOX.a 1 26\r\n{\"stream\":\"SCANS\",\"seq\":1}\r\n", iov_len=77}], 1) = 77`
		answer  = `writev(` + socket + `, ` + ackText
	)
	for _, c := range []struct {
		name  string
		lines []string
		early []int
	}{
		{"synced, then acknowledged", []string{"1 " + write, "1 " + sync, "1 " + answer}, nil},
		{"acknowledged, then synced", []string{"1 " + write, "1 " + answer, "1 " + sync}, []int{1}},
		{"never synced", []string{"1 " + write, "1 " + answer}, []int{1}},
		{"synced before it was written", []string{"1 " + write, "1 " + sync, "1 " + write, "1 " + answer}, []int{1}},
		{"the sync failed", []string{"1 " + write, "1 fsync(" + block + ") = -1 EIO (Input/output error)", "1 " + answer}, []int{1}},
		{"another file was synced", []string{"1 " + write, "1 fsync(12</data/streams/SCANS/msgs/2.blk>) = 0", "1 " + answer}, []int{1}},
		{"acknowledged while the sync ran", []string{"1 " + write, "1 fsync(" + block + unfinished, "2 " + answer, "1 <... fsync resumed>) = 0"}, []int{1}},
		{"the sync began while the write ran", []string{"1 pwrite64(" + block + `, "box-000001.", 58, 0` + unfinished, "2 " + sync, "1 <... pwrite64 resumed>) = 58", "1 " + answer}, []int{1}},
		{"the sync ended in a line of its own", []string{"1 " + write, "1 fsync(" + block + unfinished, "2 write(5<pipe:[7]>, \"x\", 1) = 1", "1 <... fsync resumed>) = 0", "1 " + answer}, nil},
		{"a batch of two, one of them never written, told in two pieces", []string{"1 " + write, "1 " + sync, "1 writev(" + socket + `, [{iov_base="{\"stream\":\"SCANS\",\"se", iov_len=21}, {iov_base="q\":2,\"batch\":\"A1\",\"count\":2}"}], 1) = 77`}, []int{2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := examine(parse(strings.Join(c.lines, "\n")))
			if len(got.acks) != 1 {
				t.Fatalf("acknowledgements: got %d, want 1", len(got.acks))
			}
			if early := got.early(); !slices.Equal(early, c.early) {
				t.Errorf("acknowledged too early: got %v, want %v", early, c.early)
			}
		})
	}
}
