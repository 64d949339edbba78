/** Whether a text is a moment as PostgreSQL writes it in UTC, for example `2026-01-31 09:00:00.123456+00`: what a page token holds. */
export function isMoment(text: unknown): text is string {
  if (typeof text !== "string" || !/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{1,6})?\+00$/.test(text)) return false;
  const [day = "", time = ""] = text.slice(0, -3).split(" ");
  const date = new Date(`${day}T${time.slice(0, 8)}Z`);
  // JavaScript takes the 30th of February for the 2nd of March; PostgreSQL does not.
  return !Number.isNaN(date.getTime()) && date.toISOString().startsWith(day);
}
