package export

import (
	"cmp"
	"errors"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/xuri/excelize/v2"

	"yaosu/schema"
)

// The sheets of a workbook.
const (
	sheetSuspects = "线索"
	sheetEvidence = "证据"
	sheetOrgs     = "机构汇总"
	sheetAbout    = "说明"
)

// rowsPerSheet is what a spreadsheet can hold in one sheet, its heading too.
const rowsPerSheet = 1_048_576

// shape is how the cells of a column look.
type shape int

const (
	asText  shape = iota // ids, codes and words: text to a spreadsheet, whatever it looks like
	asLines              // the same, with line breaks
	asCount
	asYuan
	asAmount // a number with as many decimals as it has
	asMoment
	asDay
)

// heading is one column of a sheet.
type heading struct {
	title string
	width float64 // characters
	shape shape
}

// layout is what a sheet shows besides its cells.
type layout struct {
	frozen  int // columns that stay in sight
	printed int // columns that go on paper, from the left; 0 for all
	folding int // columns that can be folded away, at the right
}

// book is a workbook that is written row by row, so that a sheet of a million rows
// takes no more memory than one of ten.
type book struct {
	file   *excelize.File
	rows   int // a sheet's, at most, with its heading
	styles map[shape]int
	title  int
	levels map[string]int // fill of a severity
	tables int
	made   time.Time

	// What can be said of sheets only when all are there: which go where, and what
	// of them goes on paper.
	moves  [][2]string // a sheet, and the one it stands before
	papers [][2]string // a sheet, and its columns and rows
}

func newBook(rows int, made time.Time) (*book, error) {
	b := &book{file: excelize.NewFile(), rows: rows, made: made, styles: map[shape]int{}, levels: map[string]int{}}
	if err := b.file.SetDefaultFont("微软雅黑"); err != nil {
		return nil, err
	}
	top := &excelize.Alignment{Vertical: "top"}
	wrapped := &excelize.Alignment{Vertical: "top", WrapText: true}
	moment, day, amount := "yyyy-mm-dd hh:mm:ss", "yyyy-mm-dd", "General"
	var problems []error
	style := func(s *excelize.Style) int {
		id, err := b.file.NewStyle(s)
		problems = append(problems, err)
		return id
	}
	const asTyped = 49 // @, which a spreadsheet leaves alone also when somebody edits the cell
	b.styles[asText] = style(&excelize.Style{NumFmt: asTyped, Alignment: top})
	b.styles[asLines] = style(&excelize.Style{NumFmt: asTyped, Alignment: wrapped})
	b.styles[asCount] = style(&excelize.Style{NumFmt: 3, Alignment: top})
	b.styles[asYuan] = style(&excelize.Style{NumFmt: 4, Alignment: top})
	b.styles[asAmount] = style(&excelize.Style{CustomNumFmt: &amount, Alignment: top})
	left := &excelize.Alignment{Vertical: "top", Horizontal: "left"}
	b.styles[asMoment] = style(&excelize.Style{CustomNumFmt: &moment, Alignment: left})
	b.styles[asDay] = style(&excelize.Style{CustomNumFmt: &day, Alignment: left})
	b.title = style(&excelize.Style{
		Font:      &excelize.Font{Bold: true, Color: "FFFFFF"},
		Fill:      excelize.Fill{Type: "pattern", Pattern: 1, Color: []string{"305496"}},
		Alignment: &excelize.Alignment{Vertical: "center", WrapText: true},
	})
	for level, color := range map[string]string{"high": "F4B6B6", "medium": "FCE4B0", "low": "E7E6E6"} {
		b.levels[level] = style(&excelize.Style{
			NumFmt: asTyped, Fill: excelize.Fill{Type: "pattern", Pattern: 1, Color: []string{color}},
			Alignment: &excelize.Alignment{Vertical: "top", Horizontal: "center"},
		})
	}
	return b, errors.Join(problems...)
}

// sheet is one that is being written. When it is full it goes on in another of the
// same name with a number.
type sheet struct {
	book     *book
	name     string
	part     int
	before   string // the sheet that its parts stand before, empty for the end
	layout   layout
	headings []heading
	out      *excelize.StreamWriter
	current  string
	row      int
}

func (b *book) sheet(name, before string, l layout, headings []heading) (*sheet, error) {
	s := &sheet{book: b, name: name, before: before, layout: l, headings: headings}
	return s, s.begin()
}

func (s *sheet) begin() error {
	s.part++
	s.current, s.row = s.name, 0
	f := s.book.file
	if s.part > 1 {
		s.current += strconv.Itoa(s.part)
		if s.before != "" {
			s.book.moves = append(s.book.moves, [2]string{s.current, s.before})
		}
	}
	if _, err := f.NewSheet(s.current); err != nil {
		return err
	}
	// On paper: across, as wide as the page, and marked as what it is on every one.
	fit, landscape, wide, tall, a4 := true, "landscape", 1, 0, 9
	margin, edge, band := 0.3, 0.6, 0.3 // inches
	err := errors.Join(
		f.SetSheetProps(s.current, &excelize.SheetPropsOptions{FitToPage: &fit}),
		f.SetPageLayout(s.current, &excelize.PageLayoutOptions{Size: &a4, Orientation: &landscape, FitToWidth: &wide, FitToHeight: &tall}),
		f.SetPageMargins(s.current, &excelize.PageLayoutMarginsOptions{Left: &margin, Right: &margin, Top: &edge, Bottom: &edge, Header: &band, Footer: &band}),
		f.SetHeaderFooter(s.current, &excelize.HeaderFooterOptions{
			OddHeader: "&L药溯线索清单:" + s.current + "&C&B内部资料&R" + s.book.made.In(schema.Shanghai).Format("2006-01-02 15:04") + " 生成",
			OddFooter: "&L内部资料,线索不是结论&R第 &P 页,共 &N 页",
		}),
	)
	if err != nil {
		return err
	}
	if s.out, err = f.NewStreamWriter(s.current); err != nil {
		return err
	}
	titles := make([]any, len(s.headings))
	for i, h := range s.headings {
		if err := s.out.SetColWidth(i+1, i+1, h.width); err != nil {
			return err
		}
		if i >= len(s.headings)-s.layout.folding {
			if err := s.out.SetColOutlineLevel(i+1, 1); err != nil {
				return err
			}
		}
		titles[i] = excelize.Cell{StyleID: s.book.title, Value: h.title}
	}
	corner, err := excelize.CoordinatesToCellName(s.layout.frozen+1, 2)
	if err != nil {
		return err
	}
	pane := "bottomLeft"
	if s.layout.frozen > 0 {
		pane = "bottomRight"
	}
	if err := s.out.SetPanes(&excelize.Panes{Freeze: true, XSplit: s.layout.frozen, YSplit: 1, TopLeftCell: corner, ActivePane: pane}); err != nil {
		return err
	}
	s.row = 1
	return s.out.SetRow("A1", titles, excelize.RowOpts{Height: 2*lineHeight + 3})
}

// add writes a row: a value for each heading, in its shape. A severity is given as
// the wire has it and gets its word and color.
func (s *sheet) add(values ...any) error {
	if s.row == s.book.rows {
		if err := s.end(); err != nil {
			return err
		}
		if err := s.begin(); err != nil {
			return err
		}
	}
	cells := make([]any, len(values))
	lines := 1
	for i, value := range values {
		style := s.book.styles[s.headings[i].shape]
		switch v := value.(type) {
		case level:
			style, value = s.book.levels[string(v)], inChinese(string(v))
		case string:
			v = cell(v)
			if s.headings[i].shape == asLines {
				lines = max(lines, wrappedLines(v, s.headings[i].width))
			}
			if value = v; v == "" {
				value = nil
			}
		case time.Time:
			value = nil
			if v.Year() >= 1900 {
				value = onTheWall(v)
			}
		}
		cells[i] = excelize.Cell{StyleID: style, Value: value}
	}
	s.row++
	// Not every program fits the height of a row to its text.
	return s.out.SetRow("A"+strconv.Itoa(s.row), cells, excelize.RowOpts{Height: min(float64(lines)*lineHeight+3, tallestRow)})
}

const (
	lineHeight = 15.0  // points
	tallestRow = 409.0 // a spreadsheet has no taller one
)

// wrappedLines is about how many lines a text takes in a column.
func wrappedLines(s string, width float64) int {
	lines := 0
	for line := range strings.SplitSeq(s, "\n") {
		lines += max(1, int(math.Ceil(float64(text.StringWidth(line))*1.08/width)))
	}
	return lines
}

type level string

// onTheWall is a time as a clock in China shows it: spreadsheets know no zones.
func onTheWall(t time.Time) time.Time {
	t = t.In(schema.Shanghai)
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), 0, time.UTC)
}

// end closes the sheet with filters in its heading.
func (s *sheet) end() error {
	if s.row == 1 {
		// A table needs a row.
		if err := s.out.SetRow("A2", []any{"没有内容"}); err != nil {
			return err
		}
		s.row = 2
	}
	last, err := excelize.CoordinatesToCellName(len(s.headings), s.row)
	if err != nil {
		return err
	}
	paper, err := excelize.CoordinatesToCellName(cmp.Or(s.layout.printed, len(s.headings)), s.row, true)
	if err != nil {
		return err
	}
	s.book.papers = append(s.book.papers, [2]string{s.current, paper})
	s.book.tables++
	stripes := true
	if err := s.out.AddTable(&excelize.Table{
		Range: "A1:" + last, Name: "table" + strconv.Itoa(s.book.tables), StyleName: "TableStyleLight1", ShowRowStripes: &stripes,
	}); err != nil {
		return err
	}
	return s.out.Flush()
}

// finish puts the sheets in their places and says what of each goes on paper.
func (b *book) finish() error {
	f := b.file
	if err := f.DeleteSheet("Sheet1"); err != nil {
		return err
	}
	for _, m := range b.moves {
		if err := f.MoveSheet(m[0], m[1]); err != nil {
			return err
		}
	}
	for _, p := range b.papers {
		sheet := "'" + p[0] + "'!"
		err := errors.Join(
			f.SetDefinedName(&excelize.DefinedName{Name: "_xlnm.Print_Area", RefersTo: sheet + "$A$1:" + p[1], Scope: p[0]}),
			f.SetDefinedName(&excelize.DefinedName{Name: "_xlnm.Print_Titles", RefersTo: sheet + "$1:$1", Scope: p[0]}),
		)
		if err != nil {
			return err
		}
	}
	f.SetActiveSheet(0)
	return nil
}
