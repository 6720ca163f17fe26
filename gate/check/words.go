package check

import (
	"fmt"
	"time"

	"yaosu/schema"
)

const (
	textSuspended   = "本机构今日处于暂停或终止医保协议期间，不得医保结算"
	textSubstituted = "此码属于另一种药品，与本次结算的药品不符，结算将成为疑似串换"
	textTooMany     = "此码已上传两千次以上，不像单盒药品的追溯码，未能完整核对，请扫描药盒上的追溯码"
	textExpired     = "此码标明有效期至 %s，已过期，不得售出"
)

// textsAway say why a box that seems fine is not passed.
var textsAway = map[string]string{
	awayStart:   "查重索引正在建立，暂不能确认此码是否已结算，请核对后再结算",
	awayEngine:  "数据库暂不可用，未能完整核对此码，请核对后再结算",
	awayStream:  "消息系统暂不可用，最近的结算可能未计入，请核对后再结算",
	awayBehind:  "最近上传的结算尚未全部计入，请核对后再结算",
	awayDamaged: "查重索引损坏、正在重建，暂不能确认此码是否已结算，请核对后再结算",
}

func textNoCode(scheme schema.Scheme) string {
	switch scheme {
	case schema.SchemePlaceholder:
		return "这是占位码，不是药品追溯码，请扫描药盒上的追溯码"
	case schema.SchemeProduct:
		return "这是商品码，不是药品追溯码，请扫描药盒上的追溯码"
	case schema.SchemeOwn:
		return "企业自编码须连同医保药品编码(drug)才能核对，请补充后重试"
	}
	return "未能识别为药品追溯码，请重新扫描"
}

// text says what selling the box would be. It names no shop: the asker's own sales
// are its own, all others are elsewhere.
func (f finding) text(asker string) string {
	other := f.sales[0]
	for _, s := range f.sales {
		if !s.upload.fresh {
			other = s
			break
		}
	}
	day := time.UnixMilli(other.at).In(schema.Shanghai).Format(time.DateOnly)
	where := "其他机构"
	if other.org == asker {
		where = "本机构"
	}
	switch f.rule {
	case ruleReused:
		return fmt.Sprintf("此码已于 %s 在本机构医保结算，再次结算将超出该包装的数量(疑似串换)", day)
	case ruleResold:
		return fmt.Sprintf("此码已于 %s 在%s医保结算，再次结算将成为疑似回流药", day, where)
	case ruleCloned:
		return fmt.Sprintf("此码已于 %s 在%s医保结算，短时间内再次结算将成为疑似假药(克隆码)", day, where)
	case ruleCash:
		for _, s := range f.sales {
			if !s.upload.fresh && !s.insured {
				other = s
				break
			}
		}
		day = time.UnixMilli(other.at).In(schema.Shanghai).Format(time.DateOnly)
		if where = "其他机构"; other.org == asker {
			where = "本机构"
		}
		return fmt.Sprintf("此码已于 %s 在%s自费整盒售出，不得再次医保结算", day, where)
	}
	return "再次结算将成为线索 " + f.rule
}
