//! The report in a real browser: it renders without a word on the console, fits a phone, and can be read in the dark.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use crate::fake::{Fake, stderr};

/// Widths of a desktop and of a phone, in pixels.
const WIDTHS: [u32; 2] = [1280, 390];
/// `preferredColorScheme` of Blink: dark, light.
const SCHEMES: [u32; 2] = [0, 1];

/// A name that closes tags, runs script and turns the text around.
const HOSTILE: &str = "a|b</td></table><img src=x onerror=\"document.title=1\"><script>document.title=2</script>\u{202e}&amp;.mpg";

/// What the page says of itself: its width, the window's, the least contrast of a chart's text against the page, and the
/// lightness of the page.
const MEASURE: &str = r"<script>
const rgb = text => text.match(/[\d.]+/g).map(Number);
const light = text => {
  const [r, g, b] = rgb(text).map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const page = light(getComputedStyle(document.body).backgroundColor);
const contrast = text => (Math.max(text, page) + 0.05) / (Math.min(text, page) + 0.05);
const texts = [...document.querySelectorAll('svg text')].map(e => contrast(light(getComputedStyle(e).fill)));
const least = Math.min(...texts.filter(c => c > 1.01));
const root = document.documentElement;
parent.postMessage([root.scrollWidth, innerWidth, least, page, texts.length].join(' '), '*');
</script>";

/// A window is at least 500 pixels wide, a frame in it as narrow as a phone.
fn in_frame(width: u32) -> String {
    format!(
        "<!DOCTYPE html><title></title><iframe width={width} height=900 frameborder=0 src=measured.html></iframe>\
         <script>addEventListener('message', event => document.title = event.data)</script>"
    )
}

struct Browser {
    program: &'static str,
    profile: tempfile::TempDir,
}

impl Browser {
    /// The first browser that is installed; says aloud that there is none.
    fn find() -> Option<Self> {
        let works = |name: &&&str| {
            Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success())
        };
        let Some(program) = ["chromium", "chromium-browser", "google-chrome"].iter().find(works) else {
            // Written past the test harness, which swallows the output of tests that pass.
            let mut stderr = std::io::stderr();
            writeln!(stderr, "SKIPPED the report in a browser: no chromium (apt-get install chromium)")
                .unwrap();
            return None;
        };
        Some(Self { program, profile: tempfile::tempdir().unwrap() })
    }

    /// Opens a page and returns what the browser printed: the document with `--dump-dom`.
    fn open(&self, page: &Path, (width, scheme): (u32, u32), what: &str) -> String {
        let mut command = Command::new(self.program);
        command.args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--no-first-run",
        ]);
        command.args(["--enable-logging=stderr", "--virtual-time-budget=5000", what]);
        command.arg(format!("--user-data-dir={}", self.profile.path().display()));
        command.arg(format!("--blink-settings=preferredColorScheme={scheme}"));
        command.arg(format!("--window-size={width},900"));
        let output = command.arg(format!("file://{}", page.display())).output().unwrap();
        let text = stderr(&output);
        assert!(output.status.success(), "{text}");
        let console: Vec<&str> = text.lines().filter(|line| line.contains("CONSOLE")).collect();
        assert!(console.is_empty(), "the console says {console:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

/// A report of names that try to be more than names.
fn hostile_report() -> Fake {
    let fake = Fake::new();
    let mut plan: serde_json::Value = serde_json::from_str(&fake.read("fake/plan.json")).unwrap();
    plan["left_out"][0]["clip"] = HOSTILE.into();
    plan["data"] = HOSTILE.into();
    plan["classes"] = serde_json::json!(["x", HOSTILE]);
    fake.write("fake/plan.json", &serde_json::to_vec(&plan).unwrap());
    let output = fake.xtask("reproduce ucf11");
    assert!(output.status.success(), "{}", stderr(&output));
    fake
}

#[test]
fn the_report_renders_on_desktop_and_phone_in_light_and_dark() {
    let Some(browser) = Browser::find() else { return };
    let fake = hostile_report();
    let page = fake.path("results/ucf11-sample/report.html");
    let html = fs::read_to_string(&page).unwrap();
    let document = browser.open(&page, (WIDTHS[0], 1), "--dump-dom");
    assert!(document.contains("<title>ucf11-sample · report</title>"), "a name ran script");
    assert!(!document.contains("<script") && !document.contains("<img"), "a name became an element");
    assert_eq!(
        document.matches("&lt;script&gt;document.title=2&lt;/script&gt;").count(),
        7,
        "names are shown"
    );
    assert_eq!(document.matches("<svg").count(), 6, "charts");

    // The same page with a script that measures it, which its own policy would not run.
    let policy = html.find("<meta http-equiv").unwrap();
    let end = policy + html[policy..].find('>').unwrap() + 1;
    let measured = fake.path("measured.html");
    fs::write(&measured, [&html[..policy], &html[end..], MEASURE].concat()).unwrap();
    for width in WIDTHS {
        for scheme in SCHEMES {
            let frame = fake.path("frame.html");
            fs::write(&frame, in_frame(width)).unwrap();
            let document = browser.open(&frame, (1400, scheme), "--dump-dom");
            let title = document.split("<title>").nth(1).unwrap().split('<').next().unwrap().to_owned();
            let numbers: Vec<f64> = title.split(' ').map(|n| n.parse().unwrap()).collect();
            let [page_width, window, contrast, lightness, texts] = numbers[..] else { panic!("{title}") };
            assert_eq!(window, f64::from(width));
            assert!(page_width <= window, "{page_width} pixels in a window of {window}");
            assert!(
                texts > 50.0 && contrast >= 3.0,
                "a chart's text has contrast {contrast} ({width}, {scheme})"
            );
            assert!(if scheme == 0 { lightness < 0.05 } else { lightness > 0.9 }, "{lightness}");
        }
    }
    let picture = fake.path("page.png");
    browser.open(&page, (WIDTHS[1], 0), &format!("--screenshot={}", picture.display()));
    let mut reader =
        png::Decoder::new(std::io::BufReader::new(fs::File::open(&picture).unwrap())).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    assert_eq!(info.width, WIDTHS[1]);
    let bright = pixels.iter().filter(|&&level| level > 150).count();
    assert!(bright * 100 > pixels.len() && bright * 2 < pixels.len(), "light text on a dark page");
}
