package voltage

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/model"
)

// TestLoadConfigTableForms reads one table in every form that spreadsheets and
// people write.
func TestLoadConfigTableForms(t *testing.T) {
	t.Parallel()
	want := []model.Point{
		{ID: "1", Name: "Power, total", Scale: 0.1, Labels: map[int]string{0: "off", 1: "on"}},
		{ID: "2", Kind: model.Control, Max: loadFloatOf(-5), ReadBack: true},
	}
	comma := "id,name,kind,scale,max,read_back,labels\n" +
		"1,\"Power, total\",,0.1,,,0=off;1=on\n" +
		"2,,control,,-5,true,\n"
	semicolon := "id;name;kind;scale;max;read_back;labels\n" +
		"1;Power, total;;0.1;;;\"0=off;1=on\"\n" +
		"2;;control;;-5;true;\n"
	forms := map[string]string{
		"comma":           comma,
		"semicolon":       semicolon,
		"CRLF":            strings.ReplaceAll(comma, "\n", "\r\n"),
		"BOM":             "\ufeff" + semicolon,
		"no last newline": strings.TrimSuffix(comma, "\n"),
		"comments":        "# first; line\n#,\n" + strings.ReplaceAll(comma, "\n", "\n\n# more\n \n,,\n"),
		"spaces":          strings.ReplaceAll(comma, ",0.1,", " , 0.1 , "),
		"other order":     "labels,max,id,read_back,kind,name,scale\n0 = off; 1 =on ,,1,false,m,\"Power, total\",1e-1\n,-5,2,1,c,,\n",
		"upper case":      strings.Replace(strings.Replace(comma, "id,name,kind", "ID,Name,KIND", 1), "true", "TRUE", 1),
		"empty columns":   strings.Replace(strings.ReplaceAll(comma, "\n", ",,\n"), "labels,,", "labels,", 1),
	}
	for name, text := range forms {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg, err := loadTest(map[string]string{"site.yaml": "channels: [{id: a, points: meter.csv}]\n", "meter.csv": text}, nil)
			require.NoError(t, err)
			assert.Equal(t, want, cfg.Channels[0].Points)
		})
	}
}

// TestLoadConfigSharedTable checks that channels with the same table do not
// share the list.
func TestLoadConfigSharedTable(t *testing.T) {
	t.Parallel()
	cfg, err := loadTest(map[string]string{"site.yaml": "channels: [{id: a, points: meter.csv}, {id: b, points: ./meter.csv}]\n", "meter.csv": "id\n1\n"}, nil)
	require.NoError(t, err)
	cfg.Channels[0].Points[0].Name = "changed"
	assert.Equal(t, []model.Point{{ID: "1"}}, cfg.Channels[1].Points)
}

func TestLoadConfigNames(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"active_power":            "active_power",
		"Power L1-L2 (kW)":        "Power_L1-L2_kW",
		"  x  ":                   "x",
		"电压":                      "7",
		"":                        "7",
		"_":                       "_",
		"__":                      "__",
		"/_/":                     "7",
		strings.Repeat("ab ", 60): strings.TrimSuffix(strings.Repeat("ab_", 60)[:64], "_"),
	} {
		got := loadName(model.Point{ID: "7", Name: name})
		assert.Equal(t, want, got, name)
		assert.True(t, model.ValidID(got))
	}
}
