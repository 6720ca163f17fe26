package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/urfave/cli/v3"

	"yaosu/detect/export"
	"yaosu/schema"
)

func traceCommand() *cli.Command {
	return &cli.Command{
		Name:      "trace",
		Usage:     "tells the life of a code, event by event, with the suspects it is in",
		ArgsUsage: "CODE",
		Description: "CODE is taken in every form a scanner reads it: 20 digits, a GS1 element string with or\n" +
			"without brackets and symbology prefix, a GS1 Digital Link, an MA code. A manufacturer's own\n" +
			"code is told apart by the drug it was billed as: write 'DRUG CODE', as lists do, or give\n" +
			"--drug, or see all drugs. Persons are shown as pseudonyms.\n\n" +
			"Examples:\n" +
			"  yaosu trace 81234567890123456789\n" +
			"  yaosu trace '(01)06901234567892(21)A1B2C3' --format ndjson",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "drug", Usage: "catalogue code of the `DRUG` billed, for manufacturers' own codes"},
			&cli.StringFlag{Name: "format", Usage: "table or ndjson", Value: "table", Validator: oneOf("table", "ndjson")},
		},
		Action: traceAction,
	}
}

func traceAction(ctx context.Context, cmd *cli.Command) error {
	if cmd.Args().Len() != 1 {
		return usageErrorf("yaosu trace takes one CODE, got %d arguments; put a code with brackets or blanks in quotes", cmd.Args().Len())
	}
	if strings.TrimSpace(cmd.Args().First()) == "" {
		return usageErrorf("yaosu trace needs a CODE, got an empty one")
	}
	classify := schema.NewClassifier(nil)
	code := classify.Classify(cmd.Args().First(), cmd.String("drug"))
	// Lists name a manufacturer's own code after its drug. No code has a blank.
	if drug, raw, both := strings.Cut(cmd.Args().First(), " "); both && cmd.String("drug") == "" {
		if own := classify.Classify(raw, drug); own.Key == cmd.Args().First() {
			code = own
		}
	}
	conn, err := openClickHouse(ctx, cmd)
	if err != nil {
		return err
	}
	defer conn.Close()
	life, err := schema.ReadLife(ctx, conn, code)
	if err != nil {
		return err
	}
	suspects, err := life.Suspects(ctx, conn)
	if err != nil {
		return err
	}
	if cmd.String("format") == "ndjson" {
		return writeLifeNDJSON(cmd.Root().Writer, life, suspects)
	}
	return writeLifeTable(cmd.Root().Writer, life, suspects)
}

func writeLifeNDJSON(out io.Writer, l schema.Life, suspects []schema.CodeSuspect) error {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	for _, s := range l.Steps {
		if err := encoder.Encode(struct {
			Type string `json:"type"`
			schema.LifeStep
		}{"event", s}); err != nil {
			return err
		}
	}
	for _, f := range suspects {
		if err := encoder.Encode(struct {
			Type string `json:"type"`
			schema.CodeSuspect
		}{"suspect", f}); err != nil {
			return err
		}
	}
	return nil
}

func writeLifeTable(out io.Writer, l schema.Life, suspects []schema.CodeSuspect) error {
	name := l.Code.Key
	if !l.Code.Item() {
		name = printable(l.Code.Raw, 100)
	}
	fmt.Fprintf(out, "追溯码 %s(%s)\n", name, schemeWords[l.Code.Scheme])
	if !l.Code.Item() {
		fmt.Fprintln(out, "此码不能指明单件药品,不参与比对;以下按扫描原文查找。")
		if l.Code.Scheme == schema.SchemeOwn {
			fmt.Fprintln(out, "企业自编码须连同药品比对:可用 --drug 指明医保药品编码。")
		}
	}
	if len(l.Steps) == 0 {
		_, err := fmt.Fprintln(out, "系统中没有此码的任何记录。")
		return err
	}
	t := newTable(out, "时间", "业务", "机构", "区划", "事件号", "结算", "参保人(假名)", "数量", "备注")
	for _, s := range l.Steps {
		t.AppendRow(table.Row{
			clock(s.Time), export.Kind(s.Kind), strings.TrimSpace(s.OrgName + " " + s.Org), s.Region, printable(s.EventID, 64),
			printable(s.Settlement, 30), printable(s.Person, 64), amount(s), remarks(s),
		})
	}
	t.Render()
	if len(suspects) == 0 {
		_, err := fmt.Fprintln(out, "没有涉及此码的线索。")
		return err
	}
	fmt.Fprintf(out, "涉及此码的线索 %d 条:\n", len(suspects))
	t = newTable(out, "线索编号", "规则", "严重程度", "状态", "说明")
	t.SetColumnConfigs([]table.ColumnConfig{{Name: "说明", WidthMax: 80}})
	for _, f := range suspects {
		t.AppendRow(table.Row{f.ID, f.Detector, export.Severity(f.Severity), export.StatusWord(f.Status), printable(f.Reason, 1000)})
	}
	t.Render()
	return nil
}

func amount(s schema.LifeStep) string {
	switch {
	case s.Quantity == "":
		return ""
	case s.Split:
		return "拆零 " + s.Quantity
	}
	return s.Quantity
}

func remarks(s schema.LifeStep) string {
	var words []string
	switch s.State {
	case schema.StepVoided:
		words = append(words, "已作废")
	case schema.StepUndone:
		words = append(words, "已退货("+s.Partner+")")
	case schema.StepUndoes:
		words = append(words, "冲销 "+s.Partner)
	case schema.StepMerged:
		words = append(words, "重复上传(同 "+s.Partner+")")
	case schema.StepIdle:
		words = append(words, "未冲销任何销售")
	case schema.StepClock:
		words = append(words, "时钟异常,不参与比对")
	}
	if s.Kind == string(schema.Sale) && s.Pay == schema.PaySelf {
		words = append(words, "自费")
	}
	if s.Codes > 1 {
		words = append(words, fmt.Sprintf("本笔共 %d 码", s.Codes))
	}
	for _, flag := range s.Flags {
		if w, known := flagWords[flag]; known {
			words = append(words, w)
		} else if flag != schema.FlagClock {
			words = append(words, flag)
		}
	}
	return printable(strings.Join(words, ";"), 200)
}
