export function QueuePage(_: any): any { return null; }
