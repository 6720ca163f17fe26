package export

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
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
)

// heading is one column of a sheet.
type heading struct {
	title string
	width float64 // characters
	shape shape
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
}

func newBook(rows int) (*book, error) {
	b := &book{file: excelize.NewFile(), rows: rows, styles: map[shape]int{}, levels: map[string]int{}}
	if err := b.file.SetDefaultFont("微软雅黑"); err != nil {
		return nil, err
	}
	top := &excelize.Alignment{Vertical: "top"}
	wrapped := &excelize.Alignment{Vertical: "top", WrapText: true}
	moment, amount := "yyyy-mm-dd hh:mm:ss", "General"
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
	b.styles[asMoment] = style(&excelize.Style{CustomNumFmt: &moment, Alignment: &excelize.Alignment{Vertical: "top", Horizontal: "left"}})
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
	frozen   int // columns that stay in sight
	headings []heading
	out      *excelize.StreamWriter
	current  string
	row      int
}

func (b *book) sheet(name string, frozen int, headings []heading) (*sheet, error) {
	s := &sheet{book: b, name: name, frozen: frozen, headings: headings}
	return s, s.begin()
}

func (s *sheet) begin() error {
	s.part++
	s.current, s.row = s.name, 0
	if s.part > 1 {
		s.current += strconv.Itoa(s.part)
	}
	f := s.book.file
	if _, err := f.NewSheet(s.current); err != nil {
		return err
	}
	// On paper: across, and as wide as the page.
	fit, landscape, wide, tall := true, "landscape", 1, 0
	err := errors.Join(
		f.SetSheetProps(s.current, &excelize.SheetPropsOptions{FitToPage: &fit}),
		f.SetPageLayout(s.current, &excelize.PageLayoutOptions{Orientation: &landscape, FitToWidth: &wide, FitToHeight: &tall}),
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
		titles[i] = excelize.Cell{StyleID: s.book.title, Value: h.title}
	}
	corner, err := excelize.CoordinatesToCellName(s.frozen+1, 2)
	if err != nil {
		return err
	}
	pane := "bottomLeft"
	if s.frozen > 0 {
		pane = "bottomRight"
	}
	if err := s.out.SetPanes(&excelize.Panes{Freeze: true, XSplit: s.frozen, YSplit: 1, TopLeftCell: corner, ActivePane: pane}); err != nil {
		return err
	}
	s.row = 1
	return s.out.SetRow("A1", titles, excelize.RowOpts{Height: 24})
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
	s.book.tables++
	stripes := true
	if err := s.out.AddTable(&excelize.Table{
		Range: "A1:" + last, Name: "table" + strconv.Itoa(s.book.tables), StyleName: "TableStyleLight1", ShowRowStripes: &stripes,
	}); err != nil {
		return err
	}
	return s.out.Flush()
}

// writeXLSX writes the list as a workbook for officers.
func writeXLSX(w io.Writer, list []schema.Suspect, around Around) (err error) {
	rows := around.RowsPerSheet
	if rows == 0 {
		rows = rowsPerSheet
	}
	if rows < 2 {
		return fmt.Errorf("%d rows a sheet: want at least 2", rows)
	}
	// Reference data may not know where an institution is; its scans do.
	around.OrgRegions = maps.Clone(around.OrgRegions)
	if around.OrgRegions == nil {
		around.OrgRegions = map[string]string{}
	}
	b, err := newBook(rows)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.file.Close()) }() // removes the files of long sheets
	for _, write := range []func(*book, []schema.Suspect, Around) error{writeSuspectSheet, writeEvidenceSheet, writeOrgSheet, writeAboutSheet} {
		if err := write(b, list, around); err != nil {
			return err
		}
	}
	if err := b.file.DeleteSheet("Sheet1"); err != nil {
		return err
	}
	b.file.SetActiveSheet(0)
	if err := b.file.SetDocProps(&excelize.DocProperties{Title: "药溯线索清单", Creator: cell(around.About.By), Created: around.About.Made.UTC().Format(time.RFC3339)}); err != nil {
		return err
	}
	_, err = b.file.WriteTo(w)
	return err
}

func personTitle(around Around) string {
	if around.About.Resolved {
		return "参保人(编号)"
	}
	return "参保人(假名)"
}

func writeSuspectSheet(b *book, list []schema.Suspect, around Around) error {
	s, err := b.sheet(sheetSuspects, 3, []heading{
		{"线索编号", 19, asText}, {"严重程度", 9, asText}, {"规则", 20, asLines}, {"状态", 12, asLines},
		{"说明", 62, asLines}, {"先查什么(全部步骤见“说明”)", 46, asLines},
		{"对象", 8, asText}, {"对象编号", 24, asText}, {"涉及机构及角色", 44, asLines}, {"地区(首个为最近发生地)", 24, asLines},
		{"最早时间", 19, asMoment}, {"最近时间", 19, asMoment}, {"月份", 9, asText}, {"金额(元)", 12, asYuan},
		{"追溯码数", 9, asCount}, {"参保人数", 9, asCount}, {"证据事件数", 10, asCount},
		{personTitle(around), 20, asLines}, {"首次发现", 19, asMoment}, {"最近变化", 19, asMoment}, {"规则编号", 20, asText},
	})
	if err != nil {
		return err
	}
	for i := range list {
		x := &list[i]
		err := s.add(x.ID, level(x.Severity), around.title(x.Detector), Status(x),
			x.Reason, firstStep(around.Rules[x.Detector].Check),
			inChinese(x.EntityKind), x.EntityID, parts(x, around), someLines(x.Regions, around.region),
			x.FirstTime, x.LastTime, x.Period, x.Amount,
			len(x.Codes), len(x.Persons), len(x.Events),
			someLines(x.Persons, func(p string) string { return p }), x.OpenedAt, x.UpdatedAt, x.Detector)
		if err != nil {
			return err
		}
	}
	return s.end()
}

// linesInCell keeps a row from filling the screen.
const linesInCell = 12

// someLines is a list with a line each, and how many more there are.
func someLines(list []string, show func(string) string) string {
	var b strings.Builder
	for i, v := range list {
		if i == linesInCell {
			fmt.Fprintf(&b, "\n等共 %d 个", len(list))
			break
		}
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(show(v))
	}
	return b.String()
}

// parts lists the institutions with what each did.
func parts(s *schema.Suspect, around Around) string {
	var orgs []string
	roles := map[string][]string{}
	for i, org := range s.Orgs {
		if roles[org] == nil {
			orgs = append(orgs, org)
		}
		role := ""
		if i < len(s.Roles) {
			role = Role(s.Roles[i])
		}
		if !slices.Contains(roles[org], role) {
			roles[org] = append(roles[org], role)
		}
	}
	return someLines(orgs, func(org string) string {
		return around.org(org) + ":" + strings.Join(roles[org], "、")
	})
}

func writeEvidenceSheet(b *book, list []schema.Suspect, around Around) error {
	s, err := b.sheet(sheetEvidence, 2, []heading{
		{"线索编号", 19, asText}, {"时间", 19, asMoment}, {"机构编号", 18, asText}, {"机构名称", 32, asText}, {"地区", 24, asText},
		{"角色", 18, asText}, {"业务", 10, asText}, {"追溯码", 24, asText}, {"药品", 32, asText}, {"数量(本码)", 10, asAmount}, {"拆零", 7, asText},
		{"单价(元)", 11, asAmount}, {"基金支付(元,本码)", 14, asYuan}, {"支付", 8, asText}, {personTitle(around), 20, asText},
		{"结算号", 22, asText}, {"事件号", 26, asText}, {"终端", 14, asText},
	})
	if err != nil {
		return err
	}
	if around.Evidence == nil {
		return s.end()
	}
	err = around.Evidence(func(x *schema.Suspect, lines []Line) error {
		for _, l := range lines {
			split, pay, kind := "", "", Kind(l.Kind)
			if l.Split {
				split = "是"
			}
			if l.Kind == string(schema.Sale) {
				pay = map[string]string{schema.PayInsured: "医保", schema.PaySelf: "自费"}[l.Pay]
			}
			if l.Kind == "" {
				kind = "明细已不在库"
			}
			region := ""
			if l.Region != "" {
				region = around.region(l.Region)
				if around.OrgRegions[l.Org] == "" {
					around.OrgRegions[l.Org] = l.Region
				}
			}
			err := s.add(x.ID, l.Time, l.Org, around.Names[l.Org], region,
				EventRoles(x, l.Org, l.Kind), kind, l.Code, drug(l), l.Quantity, split,
				l.Price, l.Paid, pay, l.Person, l.Settlement, l.EventID, l.Device)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return s.end()
}

func drug(l Line) string {
	if l.DrugName == "" {
		return l.Drug
	}
	return l.DrugName
}

// share is what the list says of one institution.
type share struct {
	suspects  int
	levels    map[string]int
	roles     map[string]int
	detectors map[string]int
	codes     map[string]bool
	amount    float64
}

func writeOrgSheet(b *book, list []schema.Suspect, around Around) error {
	s, err := b.sheet(sheetOrgs, 2, []heading{
		{"机构编号", 18, asText}, {"机构名称", 34, asText}, {"类型", 10, asText}, {"地区", 26, asText},
		{"线索数", 9, asCount}, {"严重程度高", 9, asCount}, {"中", 7, asCount}, {"低", 7, asCount},
		{"角色及次数", 34, asLines}, {"涉及规则", 34, asLines}, {"涉及线索金额合计(元)", 16, asYuan}, {"追溯码数", 10, asCount},
	})
	if err != nil {
		return err
	}
	shares := map[string]*share{}
	for i := range list {
		x := &list[i]
		for org := range set(x.Orgs) {
			o := shares[org]
			if o == nil {
				o = &share{levels: map[string]int{}, roles: map[string]int{}, detectors: map[string]int{}, codes: map[string]bool{}}
				shares[org] = o
			}
			o.suspects++
			o.levels[x.Severity]++
			o.detectors[around.title(x.Detector)]++
			o.amount += x.Amount
			for _, code := range x.Codes {
				o.codes[code] = true
			}
			for j, of := range x.Orgs {
				if of == org && j < len(x.Roles) {
					o.roles[Role(x.Roles[j])]++
				}
			}
		}
	}
	orgs := slices.SortedFunc(maps.Keys(shares), func(a, b string) int {
		x, y := shares[a], shares[b]
		return cmp.Or(cmp.Compare(y.levels["high"], x.levels["high"]), cmp.Compare(y.levels["medium"], x.levels["medium"]),
			cmp.Compare(y.suspects, x.suspects), cmp.Compare(a, b))
	})
	for _, org := range orgs {
		o := shares[org]
		region := around.OrgRegions[org]
		if region != "" {
			region = around.region(region)
		}
		err := s.add(org, around.Names[org], word(typeWords, around.Types[org]), region,
			o.suspects, o.levels["high"], o.levels["medium"], o.levels["low"],
			counts(o.roles), counts(o.detectors), o.amount, len(o.codes))
		if err != nil {
			return err
		}
	}
	return s.end()
}

// counts lists words with how often each occurs, the most frequent first.
func counts(of map[string]int) string {
	words := slices.SortedFunc(maps.Keys(of), func(a, b string) int { return cmp.Or(cmp.Compare(of[b], of[a]), cmp.Compare(a, b)) })
	return someLines(words, func(w string) string { return w + " " + strconv.Itoa(of[w]) })
}

func writeAboutSheet(b *book, list []schema.Suspect, around Around) error {
	s, err := b.sheet(sheetAbout, 1, []heading{{"项目", 22, asLines}, {"内容", 120, asLines}})
	if err != nil {
		return err
	}
	amount := 0.0
	levels := map[string]int{}
	used := map[string]int{}
	for i := range list {
		amount += list[i].Amount
		levels[list[i].Severity]++
		used[list[i].Detector]++
	}
	persons := "参保人一律显示为假名:同一假名就是同一人,不能反推出编号。需要编号的,由获准读对照库的人用 --resolve 导出。"
	if around.About.Resolved {
		persons = "本表已把假名换成参保人编号,属个人信息:限办案人员使用,不得外传,用后删除。"
	}
	lines := [][2]string{
		{"这是什么", "药溯从追溯码扫码与医保结算数据中找出的疑点线索。线索不是结论:每一条都要先排除正当情形,再核查取证。"},
		{"共有", fmt.Sprintf("%d 条线索(高 %d,中 %d,低 %d),涉及金额 %s 元。", len(list), levels["high"], levels["medium"], levels["low"], yuan(amount))},
		{"生成时间", around.About.Made.In(schema.Shanghai).Format("2006-01-02 15:04:05") + "(北京时间)"},
		{"生成人", around.About.By},
		{"筛选条件", around.About.Filter},
		{"怎么用", "“线索”一行一条,严重的在前,可用表头筛选;“说明”列是事由,“先查什么”是第一步。按线索编号到“证据”表看逐笔事件:哪天、哪家、哪盒、谁的卡、付了多少。“机构汇总”看哪一家涉及最多。核查之后用 yaosu review 登记结论,已排除、已解释的不再列出。"},
		{"参保人", persons},
		{"金额", "基金不该支付的部分(没有基金支付额的按单价×数量);同一个码的多次结算,扣除第一次。0 元表示尚未付款,或无法计算。机构汇总里的金额是该机构所涉线索的合计,同一条线索会计入每家涉及机构,不能相加。"},
		{"严重程度", around.SeverityRule},
		{"状态", "待核:还没有人处理;核查中、属实、移送、排除:人工登记的结论;已解释:后来的退货、撤销、资料或豁免说明了原因;“新证据,重新打开”:排除之后又出现了新的证据事件,请再看。"},
		{"时间", "均为北京时间,取业务发生时间,不是上传时间。"},
	}
	for _, l := range lines {
		if l[1] == "" {
			continue
		}
		if err := s.add(l[0], l[1]); err != nil {
			return err
		}
	}
	for _, id := range slices.SortedFunc(maps.Keys(used), func(a, b string) int { return cmp.Or(cmp.Compare(used[b], used[a]), cmp.Compare(a, b)) }) {
		rule := around.Rules[id]
		title := around.title(id)
		for _, part := range [][2]string{
			{"规则:" + title, fmt.Sprintf("%s,本表 %d 条", id, used[id])},
			{title + ":表现", unmarked(rule.Looks)},
			{title + ":正当解释", unmarked(rule.Honest)},
			{title + ":怎样核查", unmarked(rule.Check)},
			{title + ":查不出什么", unmarked(rule.Misses)},
		} {
			if part[1] == "" {
				continue
			}
			if err := s.add(part[0], part[1]); err != nil {
				return err
			}
		}
	}
	return s.end()
}
