package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/urfave/cli/v3"

	"yaosu/detect"
	"yaosu/detect/export"
	"yaosu/schema"
)

func reviewCommand() *cli.Command {
	return &cli.Command{
		Name:      "review",
		Usage:     "appends what somebody decided about a suspect",
		ArgsUsage: "ID",
		Description: "ID is that of a suspect, or its beginning where no other begins so. The newest decision\n" +
			"stands above what the detectors say; none is ever overwritten, by a person or a machine.\n\n" +
			"  reviewing   somebody works on it\n" +
			"  confirmed   it is true\n" +
			"  dismissed   it is honest: lists leave it out. New events of evidence open it again, with a\n" +
			"              mark; another reason or parameter alone does not\n" +
			"  referred    handed on, to the police for example\n" +
			"  open        takes the decisions before back: the word is the detectors' again\n\n" +
			"What is honest for good, such as a maker's doubled code, is better an exemption:\n" +
			"`yaosu reference load exemptions`.\n\n" +
			"Examples:\n" +
			"  yaosu review 7rigb4nirasbhmn8 --status dismissed --by 王敏 --reason 换货,退货单已补传\n" +
			"  yaosu review 7rig --list",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "status", Usage: "`S`: " + strings.Join(detect.Decisions(), ", "), Validator: oneOf(detect.Decisions()...)},
			&cli.StringFlag{Name: "by", Usage: "`NAME` of who decides"},
			&cli.StringFlag{Name: "reason", Usage: "why (`TEXT`), for those who read it in a year"},
			&cli.BoolFlag{Name: "list", Usage: "print the decisions so far, and decide nothing"},
		},
		Action: review,
	}
}

func review(ctx context.Context, cmd *cli.Command) error {
	id, err := oneSuspect(cmd)
	if err != nil {
		return err
	}
	d := detect.Decision{Status: cmd.String("status"), By: strings.TrimSpace(cmd.String("by")), Reason: strings.TrimSpace(cmd.String("reason"))}
	if cmd.Bool("list") {
		if d.Status != "" || d.Reason != "" {
			return usageErrorf("--list decides nothing: leave out --status and --reason")
		}
	} else {
		for _, flag := range []string{"status", "by", "reason"} {
			if strings.TrimSpace(cmd.String(flag)) == "" {
				return usageErrorf("a decision needs --status, --by and --reason; --%s is missing", flag)
			}
		}
	}
	conn, err := openClickHouse(ctx, cmd)
	if err != nil {
		return err
	}
	defer conn.Close()
	if d.Suspect, err = detect.FindSuspect(ctx, conn, id); err != nil {
		return err
	}
	if !cmd.Bool("list") {
		if _, err := detect.Decide(ctx, conn, d, time.Now()); err != nil {
			return err
		}
	}
	list, err := export.Read(ctx, conn, export.Filter{ID: d.Suspect, All: true})
	if err != nil {
		return err
	}
	history, err := detect.History(ctx, conn, d.Suspect)
	if err != nil {
		return err
	}
	out := cmd.Root().Writer
	for i := range list {
		fmt.Fprintf(out, "线索 %s(%s)现为:%s\n%s\n", list[i].ID, list[i].Detector, export.Status(&list[i]), printable(list[i].Reason, 1000))
	}
	return writeHistory(out, history)
}

// oneSuspect is the argument of verbs that take one.
func oneSuspect(cmd *cli.Command) (string, error) {
	if cmd.Args().Len() != 1 || strings.TrimSpace(cmd.Args().First()) == "" {
		return "", usageErrorf("%s takes the ID of one suspect, got %d arguments; `yaosu suspects` lists them", cmd.FullName(), cmd.Args().Len())
	}
	return strings.TrimSpace(cmd.Args().First()), nil
}

func writeHistory(out io.Writer, history []detect.Decision) error {
	if len(history) == 0 {
		_, err := fmt.Fprintln(out, "还没有人工决定。")
		return err
	}
	fmt.Fprintf(out, "人工决定 %d 次,最后一次有效:\n", len(history))
	t := newTable(out, "时间", "结论", "经办人", "理由", "当时的证据")
	t.SetColumnConfigs([]table.ColumnConfig{{Name: "理由", WidthMax: 60}})
	for _, d := range history {
		seen := "不详"
		if d.Version > 0 {
			seen = fmt.Sprintf("%d 个事件", len(d.Events))
		}
		status := export.StatusWord(d.Status)
		if d.Status == schema.StatusOpen {
			status = "收回决定"
		}
		t.AppendRow(table.Row{clock(d.At), status, printable(d.By, 40), printable(d.Reason, 500), seen})
	}
	t.Render()
	return nil
}
