"""The demo's page in a real browser: clips recorded, uploaded and chosen, replies, mistakes, widths, light and dark."""

import pytest

from epo.demo.samples import choose_samples

pytestmark = pytest.mark.slow
BUSY = "byId('problem').textContent || (!isBusy && !recorder)"
UPLOAD = """(() => {
    const held = new DataTransfer();
    held.items.add(new File([%s], "clip.mp4"));
    byId("file").files = held.files;
    byId("file").dispatchEvent(new Event("change"));
})()"""


@pytest.fixture
def page_of(chromium, serve, dialogues):
    """Serve a tiny model and open its page; also return what serves it."""

    def open_page(**settings):
        served = serve(samples=choose_samples(dialogues), **settings)
        page = chromium.page(served.origin)
        page.wait_for("visit && !isBusy")
        return page, served

    return open_page


def text(page, name):
    return page.run(f"byId('{name}').textContent")


def send(page, words):
    page.run(f"byId('words').value = {words!r}, byId('send').click()")
    page.wait_for(BUSY)


def test_a_visitor_is_seen_heard_and_answered(page_of):
    """A recording of camera and microphone, a clip of the corpus, and a page that is loaded again."""
    page, served = page_of()
    page.run("byId('record').click()")
    page.wait_for("recorder && byId('player').videoWidth > 0 && byId('record').textContent === '■ Stop'")
    page.wait_for("byId('clip-says').textContent.startsWith('Recording, 1 s; the model reads 4 s')")
    page.run("byId('record').click()")
    page.wait_for("hasClip && !isBusy")
    assert text(page, "problem") == "" and text(page, "sense").startswith("Heard and seen, ")
    assert page.run("byId('player').src").startswith("blob:") and page.run("byId('player').error") is None
    assert page.run("byId('bars').children.length") == 7 and page.run("document.querySelectorAll('.area').length") == 7
    assert page.run("[...byId('tabs').children].map((tab) => tab.textContent)") == ["both", "voice", "face"]
    page.run("byId('tabs').lastChild.click()")
    assert page.run("chosenHead") == "video" and page.run("byId('tabs').lastChild.ariaPressed") == "true"

    send(page, "<img src=x onerror=alert(1)>")
    said = page.run("[...document.querySelectorAll('.turn')].map((turn) => turn.textContent)")
    assert len(said) == 2 and said[0] == "▶ <img src=x onerror=alert(1)>" and text(page, "problem") == ""
    assert [text(page, f"num-{name}") for name in ("turns", "vectors")] == ["2", "4"]
    assert int(text(page, "num-tokens")) > 4 and page.run("byId('growth').getBoundingClientRect().height") > 50
    assert page.run("byId('clip').hidden && byId('words').value === ''")

    page.run("byId('samples').value = '0', byId('samples').dispatchEvent(new Event('change'))")
    page.wait_for("hasClip && !isBusy && byId('player').readyState > 0")
    assert page.run("byId('words').value") == served.exhibit.samples[0].text
    page.ask("Page.reload")
    page.wait_for("document.readyState === 'complete' && document.querySelectorAll('.turn').length === 2 && !isBusy")
    assert [text(page, f"num-{name}") for name in ("turns", "vectors")] == ["2", "4"]
    send(page, "Hello.")
    assert page.run("document.querySelectorAll('.turn')[2].textContent") == "Hello."  # and no clip that is not shown
    page.run("byId('restart').click()")
    page.wait_for("document.querySelectorAll('.turn').length === 0 && byId('num-turns').textContent === '0'")
    assert page.errors() == []
    asked = [address for address in page.addresses() if not address.startswith(("data:", "blob:"))]
    assert len(asked) > 8 and all(address.startswith(f"{served.origin}/") for address in asked)


def test_mistakes_are_one_line_on_the_page(page_of):
    page, served = page_of(max_upload_bytes=2**20, most=1)
    page.run(UPLOAD % "'no clip'")
    page.wait_for(BUSY)
    assert text(page, "problem").startswith("the recording: is no media file")
    assert page.run("byId('clip').hidden && !hasClip")
    page.run(UPLOAD % "new Uint8Array(2 ** 20 + 1)")
    page.wait_for("byId('problem').textContent.includes('larger than 1 MiB')")
    send(page, "")
    assert text(page, "problem") == "nothing is said; write some words, or record something"
    send(page, "word " * 5000)
    assert "max_prompt_tokens" in text(page, "problem") and page.run("document.querySelectorAll('.turn').length") == 0
    send(page, "Hello.")
    assert text(page, "problem") == "" and page.run("document.querySelectorAll('.turn').length") == 2
    served.begin()  # another visitor, the only one that may be
    send(page, "Are you there?")
    assert text(page, "problem").startswith("this talk is over") and text(page, "num-turns") == "0"
    send(page, "Hello.")
    assert text(page, "problem") == "" and text(page, "num-turns") == "2"


def test_nothing_is_cut_off_at_three_widths_in_light_and_dark(page_of, tmp_path):
    page, _ = page_of()
    page.run("byId('samples').value = '0', byId('samples').dispatchEvent(new Event('change'))")
    page.wait_for("hasClip && !isBusy && byId('player').readyState > 0")
    send(page, "What a day! " + "m" * 200)
    send(page, "And another one, which was long too, and windy, and we walked for hours.")
    page.run("byId('samples').value = '1', byId('samples').dispatchEvent(new Event('change'))")
    page.wait_for("hasClip && !isBusy && byId('player').readyState > 0")
    page.run("about.emotions.forEach((emotion) => addTurn('assistant', 'Yes.', emotion))")
    page.run("complain('no clip of this name: ' + 'x'.repeat(150))")
    papers = set()
    assert len(page.contrasts(22)) > 30  # more than there is
    for width in (360, 900, 1600):
        for scheme in ("light", "dark"):
            page.ask("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False)
            page.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
            size = page.picture(tmp_path / f"{width}-{scheme}.png")
            assert size[0] == width and page.cut_off() == []
            papers.add(page.run("getComputedStyle(document.body).backgroundColor"))
            assert page.contrasts(4.5) == []
    assert len(papers) == 2 and page.errors() == []
