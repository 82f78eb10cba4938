"""The console in a real Chromium: live without a reload, usable from the keyboard, whole without JavaScript."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, async_playwright
from services.planted_payments import entered, moved

from adapters.console import issue_login_link
from connectors.payments.contract import REVIEW, SENT

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore::ResourceWarning")]
SCREENSHOT = Path(__file__).resolve().parents[2] / "docs" / "images" / "console.png"
CONTRAST = """
() => {
  const parse = (text) => (text.match(/[0-9.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const back = (node) => { for (let n = node; n; n = n.parentElement) { const c = parse(getComputedStyle(n).backgroundColor);
    if (c.length === 3 || c[3] > 0) return c; } return [255, 255, 255]; };
  const poor = [];
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !node.getClientRects().length || node.closest(".hidden, .skip")) continue;
    const a = light(parse(getComputedStyle(node).color)), b = light(back(node));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push(`${node.tagName}.${node.className} ${ratio.toFixed(2)}`);
  }
  return poor;
}
"""
UNNAMED = """
() => [...document.querySelectorAll("input:not([type=hidden]), select, button, a")]
  .filter((n) => !(n.labels?.length || n.textContent.trim() || n.getAttribute("aria-label")))
  .map((n) => n.outerHTML)
"""


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if executable is None:
        if os.environ.get("CI"):
            pytest.fail("No Chromium on this machine; CI needs one.")
        pytest.skip("No Chromium on this machine; install the package chromium.")
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(
            executable_path=executable, args=["--headless", "--no-sandbox", "--disable-gpu"]
        )
        yield started
        await started.close()


async def _sign_in(page: Page, desk: Any) -> None:
    await page.goto(issue_login_link(desk.plant.blind, desk.url))
    await page.get_by_role("button", name="Sign in").click()
    await page.wait_for_url("**/console")


async def _fill(desk: Any) -> tuple[Any, Any]:
    for number in range(14):
        message = await desk.plant.message(partner=("civil", "health")[number % 2])
        state = ("delivered", "delivered", "delivered", "waiting", "queued", "refused", "dead")[number % 7]
        route, target = (
            ("crvs-to-registry", "registry"),
            ("births-to-health", "health-registry"),
            ("notices-by-mail", "mail"),
        )[number % 3]
        await desk.plant.delivery(message, route=route, target=target, state=state, attempts=1)
    message = await desk.plant.message()
    dead = await desk.plant.delivery(
        message,
        state="dead",
        code="target-unavailable",
        reason="The target did not answer in 5 attempts.",
        attempts=2,
    )
    exchange = {
        "method": "POST",
        "address": "https://registry.example/v1/events",
        "status": "503",
        "seconds": 0.21,
    }
    for number in (1, 2):
        await desk.plant.attempt(
            dead,
            message,
            number,
            outcome="retry",
            code="target-unavailable",
            detail="Answered 503.",
            exchanges=[exchange],
        )
    return message, dead


async def test_a_new_delivery_appears_without_a_reload(browser: Browser, desk: Any) -> None:
    page = await browser.new_page(viewport={"width": 1280, "height": 900})
    errors: list[str] = []
    page.on("console", lambda entry: errors.append(entry.text) if entry.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    await _fill(desk)
    await _sign_in(page, desk)
    await page.locator("#live.on").wait_for()
    message = await desk.plant.message()
    await desk.plant.delivery(message, route="brand-new-route")
    await page.get_by_role("link", name="brand-new-route").wait_for(timeout=15000)
    if os.environ.get("HUB_SCREENSHOTS") == "1":
        SCREENSHOT.parent.mkdir(parents=True, exist_ok=True)
        await page.screenshot(path=SCREENSHOT, full_page=False)
    assert errors == []


async def test_the_timeline_of_a_message_follows_it_to_its_end(browser: Browser, desk: Any) -> None:
    message = await desk.plant.message()
    delivery = await desk.plant.delivery(message, state="waiting")
    page = await browser.new_page()
    await _sign_in(page, desk)
    await page.get_by_label("Message id").fill(str(message))
    await page.get_by_role("button", name="Open").click()
    await page.locator("#live.on").wait_for()
    await desk.plant.attempt(delivery, message, 1)
    await desk.pool.execute(
        "UPDATE delivery SET state = 'delivered', attempts = 1, ended_at = now() WHERE id = $1", delivery
    )
    await page.locator(".timeline .ended.delivered").wait_for(timeout=15000)
    assert await page.locator(".timeline li").count() == 5


@pytest.mark.parametrize("scripts", [True, False])
async def test_a_dead_letter_is_resent_and_another_dismissed_from_the_page(
    browser: Browser, desk: Any, scripts: bool
) -> None:
    await _fill(desk)
    context = await browser.new_context(java_script_enabled=scripts)
    page = await context.new_page()
    await _sign_in(page, desk)
    await page.get_by_role("navigation", name="Main").get_by_role("link", name="Dead letters").click()
    letters = page.locator(".letter")
    before = await letters.count()
    await letters.first.get_by_role("button", name="Send again").click()
    await page.get_by_role("status").filter(has_text="Sent again").wait_for()
    await letters.first.get_by_label("Reason").fill("sent by hand")
    await letters.first.get_by_role("button", name="Dismiss").click()
    await page.get_by_role("status").filter(has_text="Dismissed").wait_for()
    assert await letters.count() == before - 2
    assert await desk.pool.fetchval("SELECT count(*) FROM outbox") == 1
    await page.get_by_role("button", name="Sign out").click()
    await page.goto(f"{desk.url}/console/dead")
    assert page.url.endswith("/console/login")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("language", ["en", "ar"])
async def test_pages_are_readable_named_and_fit_a_small_screen(
    browser: Browser, desk: Any, scheme: Any, language: str
) -> None:
    message, _ = await _fill(desk)
    context = await browser.new_context(
        color_scheme=scheme, viewport={"width": 320, "height": 640}, reduced_motion="reduce"
    )
    page = await context.new_page()
    await _sign_in(page, desk)
    for path in ("/console", "/console/dead", f"/console/messages/{message}", "/console/login"):
        await page.goto(f"{desk.url}{path}?lang={language}")
        assert await page.evaluate(CONTRAST) == [], path
        assert await page.evaluate(UNNAMED) == [], path
        wide = await page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        assert wide <= 0, f"{path} is {wide} pixels too wide"
        small = await page.evaluate(
            "[...document.querySelectorAll('button, input:not([type=hidden]), select, summary')]"
            ".filter((n) => n.getClientRects().length && n.getBoundingClientRect().height < 24).length"
        )
        assert small == 0, path
    await page.keyboard.press("Tab")
    assert await page.evaluate("document.activeElement.className") == "skip"


@pytest.mark.parametrize("language", ["en", "ar"])
async def test_an_operator_finds_a_payment_by_its_id_and_reads_what_to_do(
    browser: Browser, desk: Any, language: str
) -> None:
    ids = await entered(desk.books, 1, 2, 3)
    await moved(desk.books, ids["P-1"], (SENT, None), (REVIEW, "amount-differs"))
    context = await browser.new_context(viewport={"width": 320, "height": 640}, reduced_motion="reduce")
    page = await context.new_page()
    errors: list[str] = []
    page.on("console", lambda entry: errors.append(entry.text) if entry.type == "error" else None)
    await _sign_in(page, desk)
    await page.get_by_role("link", name="Payments", exact=True).click()
    await page.get_by_label("Id of a payment, a batch or a cycle").fill("P-1")
    await page.get_by_role("button", name="Find").click()
    await page.get_by_text("hub payments review decide --target mojaloop -- P-1 DECISION").wait_for()
    shown = page.url
    await page.get_by_role("link", name="B-1").click()
    await page.get_by_role("link", name="P-2").wait_for()
    for path in (shown, page.url, f"{desk.url}/console/payments", f"{desk.url}/console/payments?cycle=C-1"):
        await page.goto(f"{path}{'&' if '?' in path else '?'}lang={language}")
        assert await page.evaluate(CONTRAST) == [], path
        assert await page.evaluate(UNNAMED) == [], path
        wide = await page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        assert wide <= 0, f"{path} is {wide} pixels too wide"
    assert errors == []
