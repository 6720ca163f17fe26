package main

import "yaosu/schema"

// What officers read in the place of the machine's words, beside those of package
// export. Nothing changes these.
var (
	schemeWords = map[schema.Scheme]string{
		schema.SchemePlaceholder: "占位,非追溯码",
		schema.SchemeCN20:        "20位药品追溯码",
		schema.SchemeGS1:         "GS1 码",
		schema.SchemeMA:          "MA 码",
		schema.SchemeProduct:     "品种码,不含单件序列号",
		schema.SchemeOwn:         "企业自编码",
		schema.SchemeInvalid:     "无法识别",
	}

	flagWords = map[string]string{
		schema.FlagNoPerson:     "缺参保人",
		schema.FlagNoSettlement: "缺结算号",
		schema.FlagNamesNothing: "未指明撤销对象",
		schema.FlagTrimmed:      "码前后有多余字符",
		schema.FlagNoGS:         "码缺分隔符",
		schema.FlagTruncated:    "码被截断",
		schema.FlagLowerCase:    "码大小写异常",
		schema.FlagEANInLot:     "码尾混入商品条码",
		schema.FlagDate:         "码内日期有误",
		schema.FlagCheckDigit:   "码校验位有误",
	}
)
