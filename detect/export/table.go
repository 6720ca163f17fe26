package export

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"yaosu/schema"
)

// The widest cells, in terminal columns, so that a row stays within 130.
const (
	widestID     = 20
	widestEntity = 38
	widestOrg    = 26
	shownOrgs    = 4
)

// group is the suspects of one detector.
type group struct {
	title   string
	amount  float64
	members []schema.Suspect
}

func groups(list []schema.Suspect, titles map[string]string) []*group {
	var all []*group
	of := map[string]*group{}
	for _, s := range list {
		g := of[s.Detector]
		if g == nil {
			g = &group{title: s.Detector}
			if title := titles[s.Detector]; title != "" {
				g.title = title + " " + s.Detector
			}
			of[s.Detector] = g
			all = append(all, g)
		}
		g.members = append(g.members, s)
		g.amount += s.Amount
	}
	return all
}

func writeTable(w io.Writer, list []schema.Suspect, names, titles map[string]string) error {
	if len(list) == 0 {
		_, err := io.WriteString(w, "没有线索。\n")
		return err
	}
	header := table.Row{"编号", "严重程度", "对象", "涉及机构", "首次/最近时间", "金额(元)", "状态"}
	all := groups(list, titles)
	rows := make([][]table.Row, len(all))
	widths := make([]int, len(header))
	widen := func(row table.Row) {
		for i, cell := range row {
			widths[i] = max(widths[i], text.LongestLineLen(cell.(string)))
		}
	}
	widen(header)
	for i, g := range all {
		for _, s := range g.members {
			row := table.Row{
				fold(s.ID, widestID), inChinese(s.Severity),
				fold(clean(inChinese(s.EntityKind)+" "+s.EntityID), widestEntity), orgs(s, names), span(s), yuan(s.Amount), marks(&s),
			}
			widen(row)
			rows[i] = append(rows[i], row)
		}
	}
	// The sentence goes under the row, over all its columns and the marks between;
	// a longer line would make the renderer widen the columns of this table alone.
	whole := len(widths) - 1
	configs := make([]table.ColumnConfig, len(widths))
	for i, width := range widths {
		whole += width
		configs[i] = table.ColumnConfig{Number: i + 1, WidthMin: width}
		if header[i] == "金额(元)" {
			configs[i].Align, configs[i].AlignHeader = text.AlignRight, text.AlignRight
		}
	}
	for i, g := range all {
		t := table.NewWriter()
		t.SetStyle(table.StyleDefault) // lines of ASCII: others are twice as wide on some Chinese terminals
		t.SetColumnConfigs(configs)
		t.AppendHeader(header)
		for j, row := range rows[i] {
			t.AppendRow(row)
			sentence := fold(clean(g.members[j].Reason), whole)
			under := slices.Repeat(table.Row{sentence}, len(header))
			t.AppendRow(under, table.RowConfig{AutoMerge: true, AutoMergeAlign: text.AlignLeft})
			t.AppendSeparator()
		}
		if _, err := fmt.Fprintf(w, "%s：%d 条\n%s\n\n", g.title, len(g.members), t.Render()); err != nil {
			return err
		}
	}
	return writeSummary(w, list, all)
}

func writeSummary(w io.Writer, list []schema.Suspect, all []*group) error {
	amount := 0.0
	severity := map[string]int{}
	for _, s := range list {
		amount += s.Amount
		severity[s.Severity]++
	}
	var parts []string
	for _, s := range slices.Backward(Severities()) {
		if severity[s] > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", inChinese(s), severity[s]))
		}
	}
	widest := 0
	for _, g := range all {
		widest = max(widest, text.StringWidth(g.title))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "合计 %d 条线索（%s），涉及金额 %s 元\n", len(list), strings.Join(parts, "，"), yuan(amount))
	for _, g := range all {
		fmt.Fprintf(&b, "  %s  %6d 条  %14s 元\n", text.Pad(g.title, widest, ' '), len(g.members), yuan(g.amount))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// orgs lists the institutions by name, each once, one a line.
func orgs(s schema.Suspect, names map[string]string) string {
	var lines []string
	seen := map[string]bool{}
	for _, org := range s.Orgs {
		if seen[org] {
			continue
		}
		seen[org] = true
		if len(lines) < shownOrgs {
			name := names[org]
			if name == "" {
				name = org
			}
			lines = append(lines, fold(clean(name), widestOrg))
		}
	}
	if len(seen) > shownOrgs {
		lines = append(lines, fmt.Sprintf("等共 %d 家", len(seen)))
	}
	return strings.Join(lines, "\n")
}

// marks is the status with what is to be noted of it on lines of its own.
func marks(s *schema.Suspect) string {
	status, mark, _ := strings.Cut(strings.TrimSuffix(Status(s), ")"), "(")
	return strings.TrimSpace(status + "\n" + strings.NewReplacer(",", ",\n", " ", "\n").Replace(mark))
}

func span(s schema.Suspect) string {
	const minute = "2006-01-02 15:04"
	show := func(t time.Time) string { return t.In(schema.Shanghai).Format(minute) }
	if show(s.FirstTime) == show(s.LastTime) {
		return show(s.FirstTime)
	}
	return show(s.FirstTime) + "\n" + show(s.LastTime)
}

// yuan writes 1234.5 as 1,234.50.
func yuan(amount float64) string {
	digits := strconv.FormatFloat(math.Abs(amount), 'f', 2, 64)
	whole, cents, _ := strings.Cut(digits, ".")
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if amount < 0 {
		whole = "-" + whole
	}
	return whole + "." + cents
}

// clean keeps what a scanner or a sender put into a text from steering the
// terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
}

// fold breaks a text into lines of at most width terminal columns: between
// Chinese characters or at a blank, never before a stop, and inside a word only
// when it is longer than a line.
func fold(s string, width int) string {
	var lines []string
	line, used := []rune{}, 0
	flush := func(keep int) {
		lines = append(lines, strings.TrimRight(string(line[:keep]), " "))
		line = []rune(strings.TrimLeft(string(line[keep:]), " "))
		used = text.StringWidth(string(line))
	}
	for _, r := range s {
		wide := text.RuneWidth(r)
		if used+wide > width {
			keep := len(line)
			for at := len(line); at > 0 && at > len(line)-width/2; at-- {
				next := r
				if at < len(line) {
					next = line[at]
				}
				if breaks(line[at-1], next) {
					keep = at
					break
				}
			}
			flush(keep)
			if r == ' ' && len(line) == 0 {
				continue
			}
		}
		line = append(line, r)
		used += wide
	}
	if len(line) > 0 || len(lines) == 0 {
		lines = append(lines, string(line))
	}
	return strings.Join(lines, "\n")
}

// breaks reports whether a line may end between two characters.
func breaks(before, after rune) bool {
	if strings.ContainsRune(",.;:!?)，。；：！？）、", after) {
		return false
	}
	return before == ' ' || after == ' ' || unicode.Is(unicode.Han, before) || unicode.Is(unicode.Han, after) ||
		strings.ContainsRune(",;，。；：）、/", before)
}
