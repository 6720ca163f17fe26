package bulk

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"yaosu/schema"
)

// Reference loads what the province knows of its institutions, drugs, persons,
// stays and counties.
func (w *World) Reference(ctx context.Context, conn *schema.Conn, key *schema.PersonKey) error {
	for _, one := range w.references() {
		r, out := io.Pipe()
		go func() {
			buffered := bufio.NewWriter(out)
			one.write(buffered)
			_ = out.CloseWithError(buffered.Flush()) // never fails; a reader that left makes Flush fail
		}()
		_, err := schema.LoadReference(ctx, conn, one.kind, r, key, firstDay)
		_ = r.Close() // never fails; lets go of the writer
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *World) writeRegions(out io.Writer) {
	fmt.Fprintln(out, "region,name,lat,lon")
	for _, r := range w.regions {
		fmt.Fprintf(out, "%s,%s,%.5f,%.5f\n", r.code, r.name, r.lat, r.lon)
	}
}

func (w *World) writeOrgs(out io.Writer) {
	fmt.Fprintln(out, "org,name,region,type,level,lat,lon,status,status_from,status_to")
	for _, o := range w.orgs {
		fmt.Fprintf(out, "%s,%s,%s,%s,,%.5f,%.5f,active,2020-01-01,\n", o.id, o.name, w.regions[o.region].code, o.kind, o.lat, o.lon)
	}
}

func (w *World) writeDrugs(out io.Writer) {
	// All products of a drug have the highest price of any.
	most := map[string]int64{}
	for _, p := range w.products {
		most[p.drug] = max(most[p.drug], p.cents*14/10)
	}
	fmt.Fprintln(out, "product,drug,name,generic,pack_units,pack_level,max_price,max_days,trace_exempt")
	for _, p := range w.products {
		if p.scheme != schema.SchemeOwn {
			fmt.Fprintf(out, "%s,%s,%s,%s,%d,1,%.2f,90,0\n", p.code, p.drug, p.name, p.name, p.units, float64(most[p.drug])/100)
		}
	}
}

func (w *World) writePersons(out io.Writer) {
	fmt.Fprintln(out, "person,region,household,died_on")
	for at := range w.orgs {
		o := &w.orgs[at]
		for p := o.firstPerson; p < o.lastPerson; p++ {
			died := ""
			if d, dies := w.diesOn(p); dies && d < days {
				died = firstDay.AddDate(0, 0, d).Format(time.DateOnly)
			}
			fmt.Fprintln(out, personNumber(p)+","+w.regions[o.region].code+",H"+strconv.Itoa(p/3)+","+died)
		}
	}
}

func (w *World) writeStays(out io.Writer) {
	fmt.Fprintln(out, "person,org,admitted,discharged")
	for p := range w.persons {
		if from, to, stays := w.stayOf(p); stays {
			hospital := w.orgs[w.homeOf(p)*orgsPerRegion].id
			fmt.Fprintf(out, "%s,%s,%s,%s\n", personNumber(p), hospital,
				w.at(from, 9*3600).In(schema.Shanghai).Format(time.RFC3339), w.at(to, 15*3600).In(schema.Shanghai).Format(time.RFC3339))
		}
	}
}
