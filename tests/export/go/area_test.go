package xsave_test

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"math/rand"
	"os"
	"strings"
	"testing"

	"example.org/test/xsave"
)

// A wanted is what an area must say of itself; area and registers are bytes as hex.
type wanted struct {
	Name      string
	Area      string
	Models    []string
	Mask      uint64
	Size      int
	Offsets   map[int]int
	Registers map[string]string
	Error     string
	Ambiguous bool
}

func read(t *testing.T) []wanted {
	text, err := os.ReadFile("wanted.json")
	if err != nil {
		t.Fatal(err)
	}
	var found []wanted
	if err := json.Unmarshal(text, &found); err != nil {
		t.Fatal(err)
	}
	return found
}

func data(t *testing.T, w wanted) []byte {
	area, err := hex.DecodeString(w.Area)
	if err != nil {
		t.Fatal(err)
	}
	return area
}

func TestAreasSayTheirLayout(t *testing.T) {
	for _, w := range read(t) {
		layout, err := xsave.LayoutOf(data(t, w))
		if w.Error != "" {
			if err == nil || !strings.Contains(err.Error(), w.Error) {
				t.Errorf("%s: error %v, want %q", w.Name, err, w.Error)
			}
			var ambiguous *xsave.AmbiguityError
			if errors.As(err, &ambiguous) != w.Ambiguous {
				t.Errorf("%s: %T", w.Name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", w.Name, err)
			continue
		}
		if strings.Join(layout.Models, " ") != strings.Join(w.Models, " ") {
			t.Errorf("%s: models %v, want %v", w.Name, layout.Models, w.Models)
		}
		if layout.Mask != w.Mask || layout.Size != w.Size {
			t.Errorf("%s: mask %#x, %d bytes, want %#x, %d", w.Name, layout.Mask, layout.Size, w.Mask, w.Size)
		}
		for number := -1; number < 70; number++ {
			want, placed := w.Offsets[number]
			found, err := layout.Offset(xsave.Component(number))
			if placed != (err == nil) || found != want {
				t.Errorf("%s: %v stands at %d, want %d (%v)", w.Name, xsave.Component(number), found, want, err)
			}
		}
	}
}

func TestRegisters(t *testing.T) {
	for _, w := range read(t) {
		area := data(t, w)
		found, err := xsave.Registers(area)
		if (err != nil) != (w.Error != "") {
			t.Errorf("%s: %v", w.Name, err)
		}
		if err != nil {
			continue
		}
		layout, _ := xsave.LayoutOf(area)
		if len(found) != len(w.Registers) || len(layout.Names()) != len(found) {
			t.Errorf("%s: %d registers, %d names, want %d", w.Name, len(found), len(layout.Names()), len(w.Registers))
		}
		for _, name := range layout.Names() {
			one, err := layout.Register(area, name)
			if err != nil || hex.EncodeToString(one) != w.Registers[name] {
				t.Errorf("%s: %s is %x, want %s (%v)", w.Name, name, one, w.Registers[name], err)
			}
			if string(found[name]) != string(one) {
				t.Errorf("%s: %s is %x with all others, %x alone", w.Name, name, found[name], one)
			}
		}
		if _, err := layout.Register(area, "zmm99"); err == nil {
			t.Errorf("%s: zmm99 is read", w.Name)
		}
	}
}

func TestALayoutReadsNoAreaOfAnother(t *testing.T) {
	var areas [][]byte
	var layouts []xsave.Layout
	for _, w := range read(t) {
		if layout, err := xsave.LayoutOf(data(t, w)); err == nil {
			areas, layouts = append(areas, data(t, w)), append(layouts, layout)
		}
	}
	for i, layout := range layouts {
		for j, other := range layouts {
			if layout.Compacted == other.Compacted && (!layout.Compacted || layout.Mask == other.Mask) {
				continue
			}
			if _, err := layout.Registers(areas[j]); err == nil {
				t.Fatalf("the layout of area %d reads area %d", i, j)
			}
		}
	}
}

// Whatever bytes there are, there is an error or registers, but no panic, also where a layout of
// another area is asked for.
func TestNoInputPanics(t *testing.T) {
	wants, random := read(t), rand.New(rand.NewSource(1))
	taken, refused := 0, 0
	try := func(area []byte, layout xsave.Layout) {
		for _, registers := range []func([]byte) (map[string][]byte, error){xsave.Registers, layout.Registers} {
			if _, err := registers(area); err == nil {
				taken++
			} else {
				refused++
			}
		}
		for _, cpu := range xsave.CPUs {
			if own, err := cpu.LayoutOf(area); err == nil {
				if _, err := own.Registers(area); err != nil {
					t.Errorf("%s reads the layout and not the registers: %v", cpu.Name, err)
				}
			}
		}
	}
	for i := 0; i < len(wants); i += 1 + len(wants)/12 {
		area := data(t, wants[i])
		layout, _ := xsave.LayoutOf(area)
		for length := 0; length < len(area); length += 1 + random.Intn(60) {
			try(area[:length:length], layout)
		}
		for i := 0; i < 100 && len(area) > 575; i++ {
			other := append([]byte(nil), area...)
			for n := random.Intn(4); n >= 0; n-- {
				other[[]int{2, 3, 464, 465, 466, 512, 513, 514, 520, 521, 527}[random.Intn(11)]] = byte(random.Intn(256))
			}
			other[random.Intn(len(other))] = byte(random.Intn(256))
			try(other, layout)
		}
	}
	if taken == 0 || refused == 0 {
		t.Errorf("%d areas were read, %d refused", taken, refused)
	}
}

func TestNames(t *testing.T) {
	if _, err := xsave.CPUOf("zen44"); err == nil {
		t.Error("there is a zen44")
	}
	for _, cpu := range xsave.CPUs {
		for _, state := range cpu.States {
			if strings.HasPrefix(state.Component.String(), "component") {
				t.Errorf("%d has no name", state.Component)
			}
		}
		if _, err := cpu.Offset(4, 2); err == nil {
			t.Error("XCOMP_BV 4 is taken")
		}
	}
	if xsave.Component(61).String() != "component61" || xsave.Component(99).Bit() != 0 {
		t.Error("a component that there is not")
	}
}
