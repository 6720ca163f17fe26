package export_test

import (
	"archive/zip"
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/parquet"
	"github.com/apache/arrow/go/v17/parquet/file"
	pq "github.com/apache/arrow/go/v17/parquet/schema"
	"github.com/xuri/excelize/v2"

	"yaosu/detect/export"
	"yaosu/schema"
)

// around is what a workbook of list() shows beside it.
func around() export.Around {
	return export.Around{
		Titles: titles, Names: names,
		Types:   map[string]string{"P1": "hospital"},
		Regions: map[string]string{"530927": "沧源佤族自治县"},
		Rules: map[string]export.RuleText{"cloned_code": {
			Looks: "同一个码在很短\n时间里分别结算。", Check: "1. **先控货**:两家机构各自封存,\n   拍下`lot`。\n2. 查发票。",
		}},
		SeverityRule: "高于一切",
		About:        export.About{Made: at("2026-03-01 10:00:00"), By: "王检查员", Filter: "严重程度:高"},
		Evidence: func(each func(*schema.Suspect, []export.Line) error) error {
			for _, s := range list() {
				var lines []export.Line
				for i, event := range s.Events {
					org, id, _ := strings.Cut(event, "/")
					lines = append(lines, export.Line{
						Time: s.FirstTime.Add(time.Duration(i) * time.Hour), Org: org, Region: "530927", Kind: "sale", Code: s.EntityID, Drug: "XN02", DrugName: "阿莫西林胶囊",
						Quantity: 0.5, Price: 12.5, Paid: 9.8, Pay: "insured", Person: s.Persons[0], Settlement: "00123", EventID: id, Device: "POS1",
					})
				}
				if err := each(&s, lines); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func workbook(t *testing.T, list []schema.Suspect, a export.Around) *excelize.File {
	t.Helper()
	var out bytes.Buffer
	if err := export.Write(&out, "xlsx", list, a); err != nil {
		t.Fatal(err)
	}
	f, err := excelize.OpenReader(bytes.NewReader(out.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// cells are the rows of a sheet, each by its heading.
func cells(t *testing.T, f *excelize.File, sheet string) []map[string]string {
	t.Helper()
	rows, err := f.GetRows(sheet)
	if err != nil {
		t.Fatal(err)
	}
	var all []map[string]string
	for _, row := range rows[1:] {
		m := map[string]string{}
		for i, value := range row {
			m[rows[0][i]] = value
		}
		all = append(all, m)
	}
	return all
}

func TestTheWorkbookTellsAnInspectorWhatToDo(t *testing.T) {
	f := workbook(t, list(), around())
	if got, want := f.GetSheetList(), []string{"线索", "证据", "机构汇总", "说明"}; !slices.Equal(got, want) {
		t.Fatalf("got sheets %v, want %v", got, want)
	}
	suspects := cells(t, f, "线索")
	if len(suspects) != 4 {
		t.Fatalf("got %d suspects, want 4", len(suspects))
	}
	for heading, want := range map[string]string{
		"线索编号": "s-clone", "严重程度": "高", "规则": "疑似假药(克隆码)", "状态": "待核", "对象": "追溯码", "对象编号": "81919614060158519545",
		"涉及机构及角色":         "沧源县第一人民医院门诊药房(P1):首次售出\n银川市兴庆区好药师大药房连锁有限公司第二十三分店(P2):再次售出",
		"地区(首个为最近发生地)":    "640104\n沧源佤族自治县(530927)",
		"先查什么(全部步骤见“说明”)": "先控货:两家机构各自封存,拍下lot。",
		"最早时间":            "2026-02-01 09:00:00", "最近时间": "2026-02-03 10:30:15", "金额(元)": "1,234.50", "证据事件数": "2", "规则编号": "cloned_code",
	} {
		if got := suspects[0][heading]; got != want {
			t.Errorf("线索, %s: got %q, want %q", heading, got, want)
		}
	}
	evidence := cells(t, f, "证据")
	if len(evidence) != 2 {
		t.Fatalf("got %d lines of evidence, want 2", len(evidence))
	}
	for heading, want := range map[string]string{
		"线索编号": "s-clone", "时间": "2026-02-01 10:00:00", "机构编号": "P2", "机构名称": names["P2"], "地区": "沧源佤族自治县(530927)", "角色": "再次售出", "业务": "销售",
		"追溯码": "81919614060158519545", "药品": "阿莫西林胶囊", "数量(本码)": "0.5", "单价(元)": "12.5", "基金支付(元,本码)": "9.80", "支付": "医保",
		"参保人(假名)": testKey.Pseudonym(number), "结算号": "00123", "事件号": "a;b\\c", "终端": "POS1",
	} {
		if got := evidence[1][heading]; got != want {
			t.Errorf("证据, %s: got %q, want %q", heading, got, want)
		}
	}
	orgs := cells(t, f, "机构汇总")
	for heading, want := range map[string]string{
		"机构编号": "P1", "机构名称": names["P1"], "类型": "医院", "地区": "沧源佤族自治县(530927)", "线索数": "2", "严重程度高": "2", "中": "", "低": "",
		"涉及规则": "疑似假药(克隆码) 1\n疑似回流药 1", "涉及线索金额合计(元)": "1,254.50", "追溯码数": "1",
	} {
		if want == "" {
			want = "0"
		}
		if got := orgs[0][heading]; got != want {
			t.Errorf("机构汇总, %s: got %q, want %q", heading, got, want)
		}
	}
	about := ""
	for _, row := range cells(t, f, "说明") {
		about += row["项目"] + ":" + row["内容"] + "\n"
	}
	for _, want := range []string{"线索不是结论", "王检查员", "严重程度:高", "2026-03-01 10:00:00", "高于一切", "假名", "同一个码在很短时间里分别结算。", "2. 查发票。"} {
		if !strings.Contains(about, want) {
			t.Errorf("说明 has no %q:\n%s", want, about)
		}
	}
}

func TestCodesStayTextAndDatesAreDates(t *testing.T) {
	odd := list()[:1]
	odd[0].EntityID, odd[0].Reason = "=cmd|'/c calc'!A1", "+1"
	f := workbook(t, odd, around())
	for heading, c := range map[string]struct {
		want  excelize.CellType
		value string
	}{
		"对象编号":  {excelize.CellTypeInlineString, "=cmd|'/c calc'!A1"},
		"说明":    {excelize.CellTypeInlineString, "+1"},
		"线索编号":  {excelize.CellTypeInlineString, "s-clone"},
		"最早时间":  {excelize.CellTypeUnset, ""},
		"金额(元)": {excelize.CellTypeUnset, ""},
	} {
		rows, err := f.GetRows("线索")
		if err != nil {
			t.Fatal(err)
		}
		at, err := excelize.CoordinatesToCellName(slices.Index(rows[0], heading)+1, 2)
		if err != nil {
			t.Fatal(err)
		}
		kind, err := f.GetCellType("线索", at)
		if err != nil || kind != c.want {
			t.Errorf("%s: got type %v, %v, want %v", heading, kind, err, c.want)
		}
		formula, err := f.GetCellFormula("线索", at)
		if err != nil || formula != "" {
			t.Errorf("%s: got formula %q, %v, want none", heading, formula, err)
		}
		if got, _ := f.GetCellValue("线索", at); c.value != "" && got != c.value {
			t.Errorf("%s: got %q, want %q", heading, got, c.value)
		}
	}
	for _, sheet := range f.GetSheetList() {
		panes, err := f.GetPanes(sheet)
		if err != nil || !panes.Freeze || panes.YSplit != 1 {
			t.Errorf("%s: the heading is not frozen: %+v, %v", sheet, panes, err)
		}
		tables, err := f.GetTables(sheet)
		if err != nil || len(tables) != 1 {
			t.Errorf("%s: got %d tables with filters, %v, want 1", sheet, len(tables), err)
		}
	}
	// A serial number of Excel: days since 1899-12-30, by the clock on the wall.
	raw, err := f.GetCellValue("线索", "K2", excelize.Options{RawCellValue: true})
	if want := "46054.375"; err != nil || raw != want {
		t.Errorf("2026-02-01 09:00 in Shanghai: got %s, %v, want %s", raw, err, want)
	}
}

func TestWhatComesFromOutsideBreaksNoWorkbook(t *testing.T) {
	odd := list()[:1]
	odd[0].Reason = "a\x00b\x1dc\r\nd\xffe\ufffff_x0041_<&>"
	odd[0].EntityID = strings.Repeat("码", 40_000)
	odd[0].Orgs = []string{"\x1b[2J", strings.Repeat("😀", 20_000)}
	odd[0].Roles = []string{"never_heard_of"}
	f := workbook(t, odd, around())
	row := cells(t, f, "线索")[0]
	if got, want := row["说明"], "a·b·c·\nd·e·f_x0041_<&>"; got != want {
		t.Errorf("reason: got %q, want %q", got, want)
	}
	if got := row["对象编号"]; len([]rune(got)) != 32_767 || !strings.HasSuffix(got, "…(过长,已截断)") {
		t.Errorf("a long cell: got %d characters that end in %q, want 32767 and a mark", len([]rune(got)), got[len(got)-30:])
	}
	if got := row["涉及机构及角色"]; !strings.Contains(got, "·[2J:never_heard_of") {
		t.Errorf("a role without a word is shown as it is: got %.60q", got)
	}
}

func TestASheetThatIsFullGoesOnInAnother(t *testing.T) {
	a := around()
	a.RowsPerSheet = 3
	f := workbook(t, list(), a)
	if got, want := f.GetSheetList()[:3], []string{"线索", "线索2", "证据"}; !slices.Equal(got, want) {
		t.Errorf("got sheets %v, want %v first", got, want)
	}
	var ids []string
	for _, sheet := range []string{"线索", "线索2"} {
		for _, row := range cells(t, f, sheet) {
			ids = append(ids, row["线索编号"])
		}
	}
	if want := "s-clone s-resold s-travel s-burst"; strings.Join(ids, " ") != want {
		t.Errorf("got %v, want %s", ids, want)
	}
}

func TestAnEmptyListIsAWorkbookToo(t *testing.T) {
	f := workbook(t, nil, export.Around{})
	if rows := cells(t, f, "线索"); len(rows) != 1 || rows[0]["线索编号"] != "没有内容" {
		t.Errorf("got %v, want one row that says so", rows)
	}
}

// Excel refuses a file that is no well-formed XML; excelize forgives more.
func TestEveryPartOfTheWorkbookIsWellFormed(t *testing.T) {
	var out bytes.Buffer
	if err := export.Write(&out, "xlsx", list(), around()); err != nil {
		t.Fatal(err)
	}
	archive, err := zip.NewReader(bytes.NewReader(out.Bytes()), int64(out.Len()))
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range archive.File {
		r, err := part.Open()
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := wellFormed(text); err != nil {
			t.Errorf("%s: %v", part.Name, err)
		}
	}
}

func wellFormed(text []byte) error {
	decoder := xml.NewDecoder(bytes.NewReader(text))
	for {
		if _, err := decoder.Token(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func TestParquetCarriesWhatWasWritten(t *testing.T) {
	all := list()
	all[0].Reason = "no UTF-8: \xff"
	data := []byte(write(t, "parquet", all))
	r, err := file.NewParquetReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if r.NumRows() != 4 {
		t.Fatalf("got %d rows, want 4", r.NumRows())
	}
	names := r.MetaData().Schema.Root()
	for i, want := range []string{"suspect_id", "detector", "detector_version", "severity", "entity_kind", "entity_id", "period", "regions", "score",
		"first_time", "last_time", "amount", "events", "codes", "orgs", "roles", "persons", "reason", "parameters", "status", "opened_at", "updated_at", "superseded_by", "reopened"} {
		if got := names.Field(i).Name(); got != want {
			t.Errorf("column %d: got %s, want %s", i, got, want)
		}
	}
	column := func(i int) file.ColumnChunkReader {
		c, err := r.RowGroup(0).Column(i)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	texts := func(i, n int) (values []string, repeated []int16) {
		values, repeated = make([]string, 0, n), make([]int16, n)
		raw, defined := make([]parquet.ByteArray, n), make([]int16, n)
		total, read, err := column(i).(*file.ByteArrayColumnChunkReader).ReadBatch(int64(n), raw, defined, repeated)
		if err != nil || int(total) != n {
			t.Fatalf("column %d: got %d levels, %v, want %d", i, total, err, n)
		}
		for _, v := range raw[:read] {
			values = append(values, string(v))
		}
		return values, repeated
	}
	if got, _ := texts(0, 4); !slices.Equal(got, []string{"s-clone", "s-resold", "s-travel", "s-burst"}) {
		t.Errorf("ids: got %v", got)
	}
	if got, _ := texts(17, 4); got[0] != "no UTF-8: \ufffd" {
		t.Errorf("a reason that is no UTF-8: got %q", got[0])
	}
	// Two events, then three lists without any.
	got, repeated := texts(12, 5)
	if !slices.Equal(got, []string{"P1/E1", "P2/a;b\\c"}) || !slices.Equal(repeated, []int16{0, 1, 0, 0, 0}) {
		t.Errorf("events: got %q with levels %v, want two in the first list and none in the others", got, repeated)
	}
	if got := r.MetaData().Schema.Column(9).LogicalType(); !got.Equals(pq.NewTimestampLogicalType(true, pq.TimeUnitMillis)) {
		t.Errorf("first_time is a %v, want a moment in UTC", got)
	}
	times := make([]int64, 4)
	if _, _, err := column(9).(*file.Int64ColumnChunkReader).ReadBatch(4, times, nil, nil); err != nil || times[0] != at("2026-02-01 09:00:00").UnixMilli() {
		t.Errorf("first_time: got %d, %v, want %d", times[0], err, at("2026-02-01 09:00:00").UnixMilli())
	}
}

func TestManyRowGroups(t *testing.T) {
	many := slices.Repeat(list(), 5000)
	for i := range many {
		many[i].ID = fmt.Sprint("s", i)
	}
	r, err := file.NewParquetReader(bytes.NewReader([]byte(write(t, "parquet", many))))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if r.NumRows() != 20_000 || r.NumRowGroups() < 2 {
		t.Errorf("got %d rows in %d groups, want 20000 in more than one", r.NumRows(), r.NumRowGroups())
	}
}
