package main

import "yaosu/schema"

// What officers read in the place of the machine's words. Nothing changes these.
var (
	kindWords = map[schema.Kind]string{
		schema.Sale:           "销售",
		schema.SaleReturn:     "销售退货",
		schema.Purchase:       "采购",
		schema.PurchaseReturn: "采购退货",
		schema.StockIn:        "入库",
		schema.StockOut:       "出库",
		schema.StockTake:      "盘存",
		schema.Void:           "作废",
	}

	schemeWords = map[schema.Scheme]string{
		schema.SchemePlaceholder: "占位,非追溯码",
		schema.SchemeCN20:        "20位药品追溯码",
		schema.SchemeGS1:         "GS1 码",
		schema.SchemeMA:          "MA 码",
		schema.SchemeProduct:     "品种码,不含单件序列号",
		schema.SchemeOwn:         "企业自编码",
		schema.SchemeInvalid:     "无法识别",
	}

	severityWords = map[string]string{"low": "低", "medium": "中", "high": "高"}

	statusWords = map[string]string{
		schema.StatusOpen:      "待核",
		schema.StatusReviewing: "核查中",
		schema.StatusConfirmed: "属实",
		schema.StatusDismissed: "排除",
		schema.StatusReferred:  "移送",
		schema.StatusExplained: "已解释",
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
